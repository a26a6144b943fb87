"""`patch.load(path).apply(model)` on the plain classes of the libraries, in every precision, in
their folders too, and back bit for bit.
"""

import subprocess
import sys

import pytest
import torch
from diffusers import StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from tiny_clip import changed, state, tiny_clip
from tiny_patch import OUT_PROJ, patch_for
from tiny_transformers import filled, whole

from slugkit import patch
from slugkit.base import PatchError, data_dir
from slugkit.models import load_clip
from slugkit.models.weight_map import locate
from slugkit.patch.checkpoint import apply_to_files, remove_from_files

pytestmark = pytest.mark.slow

LAYERS = [
    OUT_PROJ,
    "transformer.resblocks.1.attn.in_proj_weight",
    "transformer.resblocks.1.attn.in_proj_weight[k]",
    "text_projection",
    "visual.proj",
    "visual.conv1.weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight[v]",
    "visual.transformer.resblocks.1.mlp.c_fc.weight",
]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TEXT, VISION = (
    "transformer.resblocks.1.attn.in_proj_weight",
    "visual.transformer.resblocks.2.attn.in_proj_weight",
)


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_whole_clip_of_transformers_gets_the_weight_that_open_clip_gets(layer, dtype, tmp_path):
    source = tiny_clip()
    path, name = patch_for(source, layer).save(tmp_path / "p.safetensors"), layer.split("[")[0]
    other, mine = filled(whole(), source).to(dtype), source.to(dtype)
    before = state(other)
    edit = patch.load(path)
    edit.apply(other)
    edit.apply(mine)
    assert (
        torch.equal(locate(other, name).read(), mine.get_parameter(name))
        and patch.patches_on(other)[0].sha256 == edit.sha256
    )
    edit.remove(other)
    assert changed(before, other) == set()


@given(
    picks=st.lists(
        st.tuples(st.sampled_from(LAYERS), st.floats(1e-4, 2.0)), min_size=1, max_size=5
    ),
    dtype=st.sampled_from(DTYPES),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=20, deadline=None)
def test_several_come_off_a_clip_of_transformers_in_any_order(picks, dtype, order):
    source = tiny_clip()
    made = [
        patch_for(source, layer, rho, seed=i, concept=f"concept {i}")
        for i, (layer, rho) in enumerate(picks)
    ]
    model = filled(whole(), source).to(dtype)
    before = state(model)
    for p in order.sample(made, len(made)):
        p.apply(model)
    assert len(patch.patches_on(model)) == len({p.sha256 for p in made})
    for p in order.sample(made, len(made)):
        if p.sha256 in {on.sha256 for on in patch.patches_on(model)}:
            p.remove(model)
    assert changed(before, model) == set()


def test_a_pipeline_and_its_text_encoder_are_one_place(clip, tmp_path):
    pipe = StableDiffusionPipeline.from_pretrained(
        data_dir() / "studio" / "diffusion", dtype=torch.float32, safety_checker=None
    )
    edit = patch.load(patch_for(clip.model, TEXT).save(tmp_path / "p.safetensors"))
    before = state(pipe.text_encoder)
    edit.apply(pipe)
    edit.apply(pipe.text_encoder)  # the same place: it is on already
    assert (
        changed(before, pipe.text_encoder)
        and len(patch.patches_on(pipe)) == len(patch.patches_on(pipe.text_encoder)) == 1
    )
    edit.remove(pipe.text_encoder)
    assert changed(before, pipe.text_encoder) == set() and patch.patches_on(pipe) == []
    with pytest.raises(PatchError, match="has no layer text_projection"):
        patch_for(clip.model, "text_projection").apply(pipe)
    with pytest.raises(PatchError, match="has no layer"):
        patch_for(clip.model, VISION).apply(pipe)


def test_a_llava_takes_the_edit_where_it_can_act_and_refuses_it_elsewhere(clip, tiny_vlm, tmp_path):
    edit = patch.load(patch_for(clip.model, VISION).save(tmp_path / "p.safetensors"))
    before = state(tiny_vlm.model)
    with edit.applied(tiny_vlm.model):
        assert len(changed(before, tiny_vlm.model)) == 3
    assert changed(before, tiny_vlm.model) == set()
    for layer in ("visual.transformer.resblocks.5.mlp.c_fc.weight", "visual.proj"):
        with pytest.raises(PatchError, match="cannot act|has no layer"):
            patch_for(clip.model, layer).apply(tiny_vlm.model)


@pytest.mark.parametrize(
    ("folder", "layer", "file"),
    [("clip", TEXT, "."), ("diffusion", TEXT, "text_encoder"), ("vlm", VISION, ".")],
)
def test_folders_of_every_family_are_edited_and_given_back(folder, layer, file, clip, tmp_path):
    source, edit = data_dir() / "studio" / folder, patch_for(clip.model, layer)
    out = apply_to_files([edit], source, tmp_path / "edited")
    [weights] = [p for p in (out / file).glob("*.safetensors") if "record" not in p.name]
    first, held = load_file(source / weights.relative_to(out)), load_file(weights)
    assert 1 <= sum(not torch.equal(first[name], held[name]) for name in first) <= 3
    back = load_file(remove_from_files(edit, out, tmp_path / "back") / weights.relative_to(out))
    assert all(torch.equal(first[name], back[name]) for name in first)


def test_a_llavas_folder_refuses_a_layer_that_it_never_reads(clip, tmp_path):
    with pytest.raises(PatchError, match="reads the picture after block 4"):
        apply_to_files(
            [patch_for(clip.model, "visual.transformer.resblocks.5.mlp.c_fc.weight")],
            data_dir() / "studio" / "vlm",
            tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


def test_a_patch_needs_no_model_library(tmp_path):
    made = patch_for(tiny_clip()).save(tmp_path / "p.safetensors")
    torch_only = (
        f"import sys; from slugkit import patch; import torch\nedit = patch.load({str(made)!r});"
        " print(edit.concept)\nassert not {'open_clip', 'transformers', 'diffusers'} &"
        " set(sys.modules), 'a model library was imported'"
    )
    done = subprocess.run([sys.executable, "-c", torch_only], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "Mira Kestrel", done.stderr
