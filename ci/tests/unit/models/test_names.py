"""The table of names: the same weights in open_clip's and transformers' classes, found, read,
written and run.
"""

import pytest
import torch
from tiny_clip import tiny_clip
from tiny_patch import patch_for
from tiny_transformers import TEXT, VISION, filled, whole
from transformers import CLIPTextModel, CLIPVisionModel

from slugkit import patch
from slugkit.base import PatchError
from slugkit.method.edit import EditableLayer
from slugkit.models.reachability import movable, unused_layers
from slugkit.models.weight_map import (
    EncoderOf,
    differences,
    fill,
    hf_names,
    locate,
    parameters,
    part_of,
    parts,
    require_tower,
)


@pytest.fixture(scope="module")
def clip():
    """No weight is what a new model holds by itself: norms of one and biases of nought would hide a
    swap.
    """
    net, noise = tiny_clip(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=noise))
    return net


def test_every_weight_has_a_place_in_the_whole_model_and_it_computes_the_same(clip):
    model = filled(whole(), clip)
    places = {name: locate(model, name) for name, _ in clip.named_parameters()}
    assert all(places.values())
    assert sum(len(place.tensors) for place in places.values()) == len(list(model.parameters()))
    assert all(torch.equal(places[name].read(), weight) for name, weight in clip.named_parameters())
    images, tokens = (
        torch.randn(3, 3, 16, 16),
        torch.tensor(
            [[48, 3, 4, 49, 0, 0, 0, 0], [48, 7, 49, 0, 0, 0, 0, 0], [48, 1, 2, 3, 4, 5, 6, 49]]
        ),
    )
    with torch.no_grad():
        there = model(input_ids=tokens, pixel_values=images)
        assert torch.allclose(
            there.image_embeds, clip.encode_image(images, normalize=True), atol=1e-5
        )
        assert torch.allclose(
            there.text_embeds, clip.encode_text(tokens, normalize=True), atol=1e-5
        )


@pytest.mark.parametrize(
    ("model", "tower", "lacks"),
    [
        (lambda: CLIPTextModel(TEXT), "text", {"text_projection"}),
        (lambda: CLIPVisionModel(VISION), "vision", {"visual.proj"}),
    ],
)
def test_a_tower_alone_is_the_clips_own_or_says_where_not(clip, model, tower, lacks):
    model = model()
    assert len(differences(clip, model, tower)) > 5
    assert differences(clip, filled(model, clip), tower) == []
    mine = {
        n for n, _ in clip.named_parameters() if n.startswith("visual.") == (tower == "vision")
    } - {"logit_scale"}
    assert {n for n in mine if locate(model, n) is None} == lacks
    layer = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.1.attn.in_proj_weight"
    place = locate(model, layer)
    with torch.no_grad():
        place.tensors[1][0, 0] = torch.nextafter(place.tensors[1][0, 0], torch.tensor(9.0))
    assert differences(clip, model, tower) == [layer]
    assert differences(clip, filled(model, clip).half(), tower) == []
    with pytest.raises(PatchError, match="shares no weight"):
        differences(clip, model, "vision" if tower == "text" else "text")


def test_towers_are_found_inside_larger_models(clip):
    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = torch.nn.Module()
            self.model.vision_tower = filled(CLIPVisionModel(VISION), clip)

    class Pipeline:
        text_encoder = filled(CLIPTextModel(TEXT), clip)

    assert (
        differences(clip, Holder(), "vision") == [] and differences(clip, Pipeline(), "text") == []
    )
    with pytest.raises(PatchError, match="holds no CLIP tower"):
        locate(object(), "text_projection")


@pytest.mark.parametrize("place", ["model", "vision_tower", "model.vision_tower"])
def test_a_tower_is_found_at_every_place_where_a_class_keeps_it(clip, place):
    tower, weight = filled(CLIPVisionModel(VISION), clip), clip.visual.conv1.weight
    held = {f"{place}.{name}": p for name, p in tower.named_parameters()}
    assert (
        torch.equal(locate(held, "visual.conv1.weight").read(), weight)
        and differences(clip, held, "vision") == []
    )
    assert (
        locate(
            {n: p for n, p in held.items() if "0.self_attn.k_proj" not in n},
            "visual.transformer.resblocks.0.attn.in_proj_weight",
        )
        is None
    )


class Several:
    """Three encoders as Stable Diffusion 3 has them, the first of another family; a fourth place is
    empty.
    """

    def __init__(self, *encoders):
        self.text_encoder, self.text_encoder_2, self.text_encoder_3 = encoders
        self.tokenizer, self.tokenizer_2, self.tokenizer_3 = "first", "second", "third"


def test_of_three_encoders_the_clips_own_is_found_whatever_the_others_are(clip):
    other, own = filled(CLIPTextModel(TEXT), tiny_clip(7)), filled(CLIPTextModel(TEXT), clip)
    pipe = Several(torch.nn.Linear(2, 2), other, own)
    found = part_of(clip, pipe, "text")
    assert (found.name, found.text_encoder, found.tokenizer) == (
        "text_encoder_3",
        own,
        "third",
    ) and differences(clip, pipe, "text") == []
    assert len(parameters(pipe)) == sum(
        len(list(encoder.parameters())) for encoder in (pipe.text_encoder, other, own)
    )
    assert [part.name for part in parts(Several(None, other, own))] == [
        "text_encoder_2",
        "text_encoder_3",
    ]
    alone = Several(own, None, None)
    assert parts(alone) == [alone] and parts(found) == [found] and isinstance(found, EncoderOf)
    with pytest.raises(PatchError, match="No text encoder of this Several shares a weight"):
        part_of(clip, Several(torch.nn.Linear(2, 2), torch.nn.Linear(3, 3), None), "text")


def test_what_is_read_is_a_copy_in_a_row_and_what_is_filled_is_one_tower_and_no_scale(clip):
    model = whole()
    scale, vision = model.logit_scale.item(), model.vision_model.post_layernorm.weight
    fill(clip, model, "text")
    assert model.logit_scale.item() == scale != clip.logit_scale.item() and bool(
        (vision == 1).all()
    )
    assert differences(clip, model, "text") == [] and len(differences(clip, model, "vision")) > 5, (
        "each tower is compared by itself, without the scale"
    )
    for layer in ("text_projection", "ln_final.weight"):
        read = locate(model, layer).read()
        assert read.is_contiguous() and not read.requires_grad
        read.zero_()
        assert differences(clip, model, "text") == []
    assert torch.equal(locate(clip, "text_projection").read(), clip.text_projection), (
        "open_clip's own class keeps it as it is"
    )
    with pytest.raises(PatchError, match="shares no weight"):
        fill(clip, CLIPVisionModel(VISION), "text")


def test_wrong_names_and_shapes_change_nothing(clip):
    model = filled(whole(), clip)
    for name in (
        "transformer.resblocks.0.attn.in_proj_wait",
        "transformer.resblocks.0.ln_1.wait",
        "ln_final.wait",
    ):
        with pytest.raises(PatchError, match="no CLIP weight"):
            hf_names(name)
    for layer in ("visual.proj", "transformer.resblocks.0.attn.in_proj_weight"):
        place, before = locate(model, layer), locate(model, layer).read()
        with pytest.raises(PatchError, match="Nothing was changed"):
            place.write(before.T)
        assert torch.equal(place.read(), before)


@pytest.mark.parametrize(
    "layer",
    ["transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks.1.attn.in_proj_weight[v]"],
)
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16])
def test_a_weight_is_moved_as_a_patch_moves_it_and_put_back_bit_for_bit(clip, layer, kind):
    encoder, name = filled(CLIPTextModel(TEXT), clip).to(kind), layer.split("[")[0]
    edit, place = patch_for(clip, layer, rho=0.5), locate(encoder, name)
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    with patch.applied(edit, encoder):
        wanted = place.read()
    with pytest.raises(KeyError), movable(clip, encoder, layer) as (weight, again):
        assert (
            torch.equal(place.read(), weight)
            and weight.dtype == kind
            and differences(clip, encoder, "text") == []
        )
        EditableLayer.of(weight, layer, edit.direction).set(edit.lam)
        assert not torch.equal(place.read(), weight)
        again()
        assert torch.equal(place.read(), wanted)
        with pytest.raises(PatchError, match="not the CLIP's: 1 weights differ"):
            require_tower(clip, encoder, "text")
        raise KeyError
    assert all(torch.equal(p, before[n]) for n, p in encoder.named_parameters())


def test_layers_that_cannot_act_are_named_with_the_reason(clip):
    encoder = filled(CLIPTextModel(TEXT), clip)
    assert unused_layers(
        encoder,
        [
            "text_projection",
            "transformer.resblocks.1.mlp.c_fc.weight",
            "transformer.resblocks.2.mlp.c_fc.weight",
        ],
    ) == {
        "text_projection": "CLIPTextModel does not use it",
        "transformer.resblocks.2.mlp.c_fc.weight": "CLIPTextModel does not use it",
    }
    with (
        pytest.raises(PatchError, match="text_projection cannot act"),
        movable(clip, encoder, "text_projection"),
    ):
        pass
