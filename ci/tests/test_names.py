"""The table of names: the same weights in open_clip's and transformers' classes, found, read, written and run."""

import pytest
import torch
from tiny_clip import tiny_clip
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from slugkit.base import PatchError
from slugkit.models.acting import carried, unused_layers
from slugkit.models.names import differences, hf_names, locate, require_tower

TEXT = CLIPTextConfig(hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, vocab_size=50, hidden_act="gelu",
                      max_position_embeddings=8, bos_token_id=48, eos_token_id=49, pad_token_id=0)
VISION = CLIPVisionConfig(hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8,
                          hidden_act="gelu")


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


def whole() -> CLIPModel:
    return CLIPModel(CLIPConfig(text_config=TEXT.to_dict(), vision_config=VISION.to_dict(), projection_dim=16)).eval()


def filled(model, clip):
    """The model with every weight of the CLIP that it has a place for."""
    for name, weight in clip.named_parameters():
        place = locate(model, name)
        if place is not None:
            place.write(weight.detach())
    return model


def test_every_weight_has_a_place_in_the_whole_model_and_it_computes_the_same(clip):
    model = filled(whole(), clip)
    places = {name: locate(model, name) for name, _ in clip.named_parameters()}
    assert all(places.values())
    assert sum(len(place.tensors) for place in places.values()) == len(list(model.parameters()))
    assert all(torch.equal(places[name].read(), weight) for name, weight in clip.named_parameters())
    images, tokens = torch.randn(3, 3, 16, 16), torch.tensor([[48, 3, 4, 49, 0, 0, 0, 0], [48, 7, 49, 0, 0, 0, 0, 0], [48, 1, 2, 3, 4, 5, 6, 49]])
    with torch.no_grad():
        there = model(input_ids=tokens, pixel_values=images)
        assert torch.allclose(there.image_embeds, clip.encode_image(images, normalize=True), atol=1e-5)
        assert torch.allclose(there.text_embeds, clip.encode_text(tokens, normalize=True), atol=1e-5)


@pytest.mark.parametrize(("model", "tower", "lacks"), [(lambda: CLIPTextModel(TEXT), "text", {"text_projection"}),
                                                       (lambda: CLIPVisionModel(VISION), "vision", {"visual.proj"})])
def test_a_tower_alone_is_the_clips_own_or_says_where_not(clip, model, tower, lacks):
    model = model()
    assert len(differences(clip, model, tower)) > 5
    assert differences(clip, filled(model, clip), tower) == []
    mine = {n for n, _ in clip.named_parameters() if n.startswith("visual.") == (tower == "vision")} - {"logit_scale"}
    assert {n for n in mine if locate(model, n) is None} == lacks
    layer = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.1.attn.in_proj_weight"
    place = locate(model, layer)
    with torch.no_grad():
        place.tensors[1][0, 0] += 1
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

    assert differences(clip, Holder(), "vision") == [] and differences(clip, Pipeline(), "text") == []
    with pytest.raises(PatchError, match="holds no CLIP tower"):
        locate(object(), "text_projection")


def test_wrong_names_and_shapes_change_nothing(clip):
    model = filled(whole(), clip)
    with pytest.raises(PatchError, match="no CLIP weight"):
        hf_names("transformer.resblocks.0.attn.in_proj_wait")
    for layer in ("visual.proj", "transformer.resblocks.0.attn.in_proj_weight"):
        place, before = locate(model, layer), locate(model, layer).read()
        with pytest.raises(PatchError, match="Nothing was changed"):
            place.write(before.T)
        assert torch.equal(place.read(), before)


@pytest.mark.parametrize("layer", ["transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks.1.attn.in_proj_weight"])
def test_a_weight_is_carried_over_and_put_back_bit_for_bit(clip, layer):
    encoder, weight = filled(CLIPTextModel(TEXT), clip), clip.get_parameter(layer)
    before, kept = {n: p.detach().clone() for n, p in encoder.named_parameters()}, weight.detach().clone()
    require_tower(clip, encoder, "text")
    try:
        with pytest.raises(KeyError), carried(clip, encoder, layer) as again, torch.no_grad():
            weight.add_(1)
            assert differences(clip, encoder, "text") == [layer]
            again()
            assert differences(clip, encoder, "text") == []
            raise KeyError
        assert all(torch.equal(p, before[n]) for n, p in encoder.named_parameters())
        with pytest.raises(PatchError, match="not the CLIP's: 1 weights differ"):
            require_tower(clip, encoder, "text")
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_layers_that_cannot_act_are_named_with_the_reason(clip):
    encoder = filled(CLIPTextModel(TEXT), clip)
    assert unused_layers(encoder, ["text_projection", "transformer.resblocks.1.mlp.c_fc.weight", "transformer.resblocks.2.mlp.c_fc.weight"]) == {
        "text_projection": "CLIPTextModel does not use it", "transformer.resblocks.2.mlp.c_fc.weight": "CLIPTextModel does not use it"}
    with pytest.raises(PatchError, match="text_projection cannot act"), carried(clip, encoder, "text_projection"):
        pass
