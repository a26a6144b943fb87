"""Half precision: files and models in it hold the CLIP's tower, and take an edit and
give it back.
"""

import copy

import pytest
import torch
from safetensors.torch import load_file
from tiny_clip import same_bits, tiny_clip
from tiny_patch import patch_for
from tiny_transformers import TEXT, VISION, filled, whole
from transformers import CLIPTextModel, CLIPVisionModel

from slugkit import patch
from slugkit.base import PatchError
from slugkit.models import Clip
from slugkit.models.weight_map import differences, locate, require_tower
from slugkit.patch.checkpoint import apply_to_files, remove_from_files

LAYERS = {
    "text": "transformer.resblocks.0.attn.in_proj_weight[k]",
    "vision": "visual.transformer.resblocks.1.mlp.c_fc.weight",
}
HALVES = [torch.float16, torch.bfloat16]
MODELS = [
    (
        "text",
        lambda: CLIPTextModel(copy.deepcopy(TEXT)),
    ),  # a saved model's type stays in its config
    ("vision", lambda: CLIPVisionModel(copy.deepcopy(VISION))),
    ("text", whole),
    ("vision", whole),
]


@pytest.fixture(scope="module")
def net():
    return tiny_clip()


def rounded(net, make, kind):
    """The model with the CLIP's weights in half precision, read as float32, as a CPU reads it."""
    return filled(make(), net).to(kind).float()


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("tower, make", MODELS)
def test_a_tower_that_was_saved_in_half_precision_is_the_clips_on_a_cpu(net, tower, make, kind):
    model, layer = rounded(net, make, kind), LAYERS[tower]
    require_tower(net, model, tower)
    place, edit = locate(model, layer.split("[")[0]), patch_for(net, layer, rho=0.5)
    before = place.read()
    edit.verify(model)
    with edit.applied(model):
        assert differences(net, model, tower) == [layer.split("[")[0]]
    assert same_bits(place.read(), before)
    with torch.no_grad():
        place.tensors[1 % len(place.tensors)].view(-1)[0] += 0.25
    assert differences(net, model, tower) == [layer.split("[")[0]]
    with pytest.raises(PatchError, match="not the weight that the patch"):
        edit.verify(model)


@pytest.mark.parametrize("kind", [torch.float32, *HALVES])
@pytest.mark.parametrize("tower, make", MODELS)
def test_what_is_measured_in_both_models_is_what_apply_gives_bit_for_bit(net, tower, make, kind):
    clip = Clip(copy.deepcopy(net), None, 16, (0.5,) * 3, (0.5,) * 3, "tiny")
    model, layer = filled(make(), net).to(kind), LAYERS[tower]
    place, edit = locate(model, layer.split("[")[0]), patch_for(net, layer, rho=0.5)
    before = place.read()
    with edit.applied(clip.model), edit.applied(model):
        measured = place.read()
        assert not same_bits(measured, before)
    assert same_bits(place.read(), before)
    edit.apply(model)
    assert same_bits(place.read(), measured)
    edit.remove(model)
    assert same_bits(place.read(), before)
    if kind == torch.float32:
        with edit.applied(net):
            name = layer.split("[")[0]
            assert torch.equal(locate(net, name).read(), measured)


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("tower, make", MODELS)
def test_an_edited_file_in_half_precision_is_read_as_the_edited_model(
    net, tower, make, kind, tmp_path
):
    model, layer = filled(make(), net).to(kind), LAYERS[tower]
    edit = patch_for(net, layer, rho=0.5)
    model.save_pretrained(tmp_path / "own")
    apply_to_files([edit], tmp_path / "own", tmp_path / "edited")
    edit.apply(model)
    stored = load_file(tmp_path / "edited" / "model.safetensors")
    name = layer.split("[")[0]
    assert same_bits(locate(stored, name).read(), locate(model, name).read())
    remove_from_files(edit, tmp_path / "edited", tmp_path / "back")
    own, back = (load_file(tmp_path / f / "model.safetensors") for f in ("own", "back"))
    assert own.keys() == back.keys() and all(same_bits(own[key], back[key]) for key in own)
    assert patch.patches_on(model) == [edit]
