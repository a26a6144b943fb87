"""One CLIP in open_clip's class and in transformers': read from either's folder, the same features;
what cannot be held is refused.
"""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from random_models import write_clip

from slugkit.base import ModelLoadError
from slugkit.method.layers import block_of, candidates, kind_of, layer_table, short
from slugkit.models import load_clip
from slugkit.models.clip import picture_size
from slugkit.models.convert import (
    activation,
    from_transformers,
    text_tower,
    to_transformers,
    vision_tower,
)
from slugkit.models.weight_map import differences

pytestmark = pytest.mark.slow

BOTH = ("vision", "text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """OpenAI's activation, as transformers' CLIPModel saves itself."""
    return write_clip(
        "ViT-B-32-quickgelu", tmp_path_factory.mktemp("clip") / "quick", "transformers", small=BOTH
    )


@pytest.mark.parametrize("architecture", ["ViT-B-32", "ViT-B-32-quickgelu"])
def test_both_classes_compute_the_same_and_come_back_bit_for_bit(architecture):
    config = open_clip.get_model_config(architecture)
    config["vision_cfg"] |= {"layers": 2, "width": 64, "head_width": 16}
    config["text_cfg"] |= {"layers": 2, "width": 64, "heads": 4}
    torch.manual_seed(0)
    net = open_clip.CLIP(**config).eval()
    there = to_transformers(net)
    back = from_transformers(there)
    assert all(
        torch.equal(a, dict(back.named_parameters())[n]) for n, a in net.named_parameters()
    ) and all(p.requires_grad for p in back.parameters())
    images, tokens = (
        torch.randn(3, 3, 224, 224),
        open_clip.get_tokenizer(architecture)(["a photo of somebody", "rain", "two red stars"]),
    )
    with torch.no_grad():
        assert torch.equal(net.encode_image(images), back.encode_image(images)) and torch.equal(
            net.encode_text(tokens), back.encode_text(tokens)
        )
        found = there(input_ids=tokens, pixel_values=images)
        assert torch.allclose(
            found.image_embeds, net.encode_image(images, normalize=True), atol=1e-5
        )
        assert torch.allclose(found.text_embeds, net.encode_text(tokens, normalize=True), atol=1e-5)
        wrong = open_clip.CLIP(
            **{**config, "quick_gelu": not config.get("quick_gelu", False)}
        ).eval()
        wrong.load_state_dict(net.state_dict())
        assert not torch.allclose(wrong.encode_text(tokens), net.encode_text(tokens), atol=1e-5), (
            "the activation would not be noticed"
        )


@pytest.fixture(scope="module")
def unlike():
    """A CLIP whose towers differ in every size (112 x (230 / 112) is below 230 in floating point),
    with other weights and constants than the classes' defaults.
    """
    torch.manual_seed(0)
    net = open_clip.CLIP(
        24,
        {
            "layers": 1,
            "width": 112,
            "head_width": 28,
            "mlp_ratio": 230.5 / 112,
            "patch_size": 8,
            "image_size": 16,
            "norm_kwargs": {"eps": 0.3},
        },
        {
            "layers": 3,
            "width": 32,
            "heads": 2,
            "mlp_ratio": 3,
            "context_length": 9,
            "vocab_size": 60,
            "norm_kwargs": {"eps": 0.1},
        },
    ).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return net


def test_every_size_and_constant_of_unlike_towers_comes_across(unlike):
    there, images, tokens = (
        to_transformers(unlike),
        torch.randn(2, 3, 16, 16),
        torch.tensor([[58, 3, 4, 59, 59, 59, 0, 0, 0], [58, 1, 58, 2, 3, 4, 5, 6, 59]]),
    )
    back = from_transformers(there.half().float())
    alone, seeing = text_tower(unlike, projection=True), vision_tower(unlike)
    assert (
        type(alone).__name__ == "CLIPTextModelWithProjection"
        and type(text_tower(unlike)).__name__ == "CLIPTextModel"
        and text_tower(unlike, 2).config.num_hidden_layers == 2
    )
    assert not any(
        model.training for model in (there, back, alone, seeing)
    ) and there.logit_scale == unlike.logit_scale.half() != torch.tensor(np.log(1 / 0.07))
    assert (alone.config.bos_token_id, alone.config.eos_token_id, alone.config.pad_token_id) == (
        58,
        59,
        59,
    )
    with torch.no_grad():
        there = to_transformers(unlike)
        found = there(input_ids=tokens, pixel_values=images)
        for features in (
            found.image_embeds,
            torch.nn.functional.normalize(
                seeing(images).pooler_output @ unlike.visual.proj, dim=-1
            ),
        ):
            assert torch.allclose(features, unlike.encode_image(images, normalize=True), atol=1e-5)
        for features in (
            found.text_embeds,
            torch.nn.functional.normalize(alone(input_ids=tokens).text_embeds, dim=-1),
        ):
            assert torch.allclose(features, unlike.encode_text(tokens, normalize=True), atol=1e-5)
        again = from_transformers(there)
        assert torch.equal(again.encode_image(images), unlike.encode_image(images)) and torch.equal(
            again.encode_text(tokens), unlike.encode_text(tokens)
        )
        assert torch.equal(again.logit_scale, unlike.logit_scale)


def test_what_is_read_is_float32_and_shares_nothing_with_where_it_came_from(unlike):
    there = to_transformers(unlike)
    back = from_transformers(there)
    for weight in back.parameters():
        weight.data.zero_()
    assert all(differences(unlike, there, tower) == [] for tower in BOTH) and there.logit_scale != 0
    assert {weight.dtype for weight in from_transformers(there.half()).parameters()} == {
        torch.float32
    }


def test_what_the_other_class_cannot_hold_is_refused(unlike):
    there = to_transformers(unlike)
    for tower, name, says in (
        ("vision", "quick_gelu", "vision tower's activation is 'quick_gelu'"),
        ("text", "relu", "text tower's activation is 'relu'"),
    ):
        config = getattr(there.config, f"{tower}_config")
        kept, config.hidden_act = config.hidden_act, name
        with pytest.raises(ModelLoadError, match=says):
            from_transformers(there)
        config.hidden_act = kept
    del there.visual_projection
    with pytest.raises(
        ModelLoadError, match="no place for 1 of the CLIP's weights, visual.proj first"
    ):
        from_transformers(there)
    block = torch.nn.Module()
    block.mlp = torch.nn.Module()
    for gelu, name in (
        (torch.nn.GELU(), "gelu"),
        (torch.nn.GELU("tanh"), "gelu_pytorch_tanh"),
        (open_clip.transformer.QuickGELU(), "quick_gelu"),
        (torch.nn.SiLU(), ""),
    ):
        block.mlp.gelu = gelu
        if name:
            assert activation(block) == name
    with pytest.raises(ModelLoadError, match="activation is SiLU"):
        activation(block)
    other = torch.nn.Module()
    other.visual = torch.nn.Module()
    other.visual.transformer = torch.nn.Module()
    other.visual.transformer.resblocks = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    with pytest.raises(ModelLoadError, match="vision tower .* is not the transformer"):
        vision_tower(other)


def test_towers_alone_read_as_the_clip_does(folder):
    clip = load_clip(str(folder), "cpu")
    tokens = clip.tokens(["a photo of somebody", "rain"])
    assert (
        text_tower(clip.model).config.hidden_act
        == vision_tower(clip.model).config.hidden_act
        == "quick_gelu"
    )
    with torch.no_grad():
        whole = text_tower(clip.model, projection=True)(input_ids=tokens).text_embeds
        assert torch.allclose(whole, clip.model.encode_text(tokens), atol=1e-5)
        states = (
            vision_tower(clip.model)(
                torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
            ).pooler_output
            @ clip.model.visual.proj
        )
        assert torch.allclose(
            states,
            clip.model.encode_image(
                torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
            ),
            atol=1e-5,
        )
    assert differences(clip.model, text_tower(clip.model, layers=1), "text") == []


def test_a_folder_of_transformers_loads_with_its_own_tokenizer_and_pictures(folder):
    clip = load_clip(str(folder), "cpu")
    assert (
        type(clip.model) is open_clip.CLIP
        and clip.image_size == 224
        and clip.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    )
    plain = open_clip.get_tokenizer("ViT-B-32")(["a photo of Zürich ☃"])[0]
    mine = clip.tokens(["a photo of Zürich ☃"])[0]
    end = int(plain.argmax())
    assert torch.equal(mine[: end + 1], plain[: end + 1]) and mine.shape == (77,)
    assert clip.image_features(np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 512)
    assert (
        picture_size(str(folder)) == (224, "crop")
        and picture_size("studio") == (64, "crop")
        and picture_size("ViT-L-14-336:openai") == (336, "crop")
    )
    assert picture_size("ViT-B-16-SigLIP:webli") == (224, "squash")


def test_a_folder_that_is_half_there_or_of_another_kind_is_refused(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((broken / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelLoadError, match="could not be read"):
        load_clip(str(broken), "cpu")
    (broken / "config.json").write_text(json.dumps({"model_type": "siglip"}))
    with pytest.raises(ModelLoadError, match="'siglip'; 'clip' was expected"):
        load_clip(str(broken), "cpu")


def test_weights_by_architecture_and_file(tmp_path):
    net = open_clip.create_model("ViT-B-32")
    from safetensors.torch import save_file

    save_file(
        {k: v.contiguous() for k, v in net.state_dict().items()}, tmp_path / "mine.safetensors"
    )
    clip = load_clip(f"ViT-B-32:{tmp_path / 'mine.safetensors'}", "cpu")
    assert (
        torch.equal(clip.model.visual.proj, net.visual.proj)
        and clip.weights == tmp_path / "mine.safetensors"
    )


def test_timms_towers_have_a_table_of_layers_and_their_edits_stay_in_clip(tmp_path):
    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    config["text_cfg"] |= {"layers": 2, "width": 64, "heads": 4}
    net = open_clip.CustomTextCLIP(
        768, config["vision_cfg"], config["text_cfg"], init_logit_bias=-10
    )
    names = candidates(layer_table(net, split_qkv=True))
    assert (
        "visual.trunk.blocks.3.attn.qkv.weight[k]" in names
        and "text.text_projection.weight" in names
    )
    assert not any("pos_embed" in n or "latent" in n or "embedding" in n for n in names)
    layer = "visual.trunk.blocks.3.attn.qkv.weight"
    assert (block_of(layer), kind_of(layer), short(layer)) == (3, "attn.in_proj", "3.attn.qkv")
    with pytest.raises(ModelLoadError, match="Its edits stay in CLIP"):
        vision_tower(net)
