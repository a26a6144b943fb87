"""Loading, the table of layers, and towers run in part."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slugkit.base import ModelLoadError, SettingError
from slugkit.method.layers import candidates, exclusion_reason, layer_table, weight_of
from slugkit.models import load_clip
from slugkit.models import prefix_cache as partial
from slugkit.models.clip import model_folder, read_config
from slugkit.models.prefix_cache import CutImages, CutTexts


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


def test_the_studio_model_is_open_clips_own_class_and_loads_there_alone(clip):
    import open_clip

    from slugkit.base import data_dir

    alone = open_clip.create_model(f"local-dir:{data_dir() / 'studio' / 'clip'}")
    assert type(alone) is open_clip.CLIP and type(clip.model) is open_clip.CLIP
    assert all(
        torch.equal(a, b)
        for a, b in zip(alone.state_dict().values(), clip.model.state_dict().values())
    )
    tokenizer = open_clip.get_tokenizer(f"local-dir:{data_dir() / 'studio' / 'clip'}")
    assert torch.equal(
        tokenizer(["a photo of Mira Kestrel"]), clip.tokens(["a photo of Mira Kestrel"])
    )


def test_names_are_short_and_unknown_text_survives(clip):
    ids = clip.tokens(["Mira Kestrel", "Zürich ☃"])
    end = clip.model.vocab_size - 1
    assert ids.shape == (2, 16) and int((ids[0] != end).sum()) == 3  # start and two names
    assert ids.max() == end


def test_candidates_follow_the_rule(clip):
    table = layer_table(clip.model)
    names = candidates(table)
    assert len(names) == 6 * 4 + 2 + 4 * 4 + 1 and "visual.conv1.weight" in names
    assert not any(part in n for n in names for part in ("bias", "ln_", "embedding", "logit_scale"))
    assert (table.loc[~table["candidate"], "reason"] != "").all()
    assert exclusion_reason("visual.ln_pre.weight", (128,), ["bias"]) == "it is no matrix"


def test_split_qkv_gives_thirds(clip):
    weights = dict(clip.model.named_parameters())
    packed = "transformer.resblocks.0.attn.in_proj_weight"
    parts = [weight_of(weights, f"{packed}[{p}]") for p in "qkv"]
    assert torch.equal(torch.cat(parts), weights[packed])
    assert f"{packed}[k]" in candidates(layer_table(clip.model, split_qkv=True))


def test_an_unknown_layer_offers_the_nearest(clip):
    with pytest.raises(SettingError, match="visual.proj"):
        layer_table(clip.model, layers=["visual.pro"])


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        "visual.conv1.weight",
        "visual.proj",
        "visual.transformer.resblocks.0.mlp.c_fc.weight",
        "visual.transformer.resblocks.5.attn.out_proj.weight",
    ],
)
def test_part_of_the_image_tower_equals_the_whole_also_after_a_change(clip, layer, named):
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)
    cut, rows = (
        CutImages(
            clip,
            images,
            [layer, "visual.transformer.resblocks.2.mlp.c_fc.weight"] if named else [],
            3,
        ),
        np.array([4, 0, 2]),
    )
    assert torch.allclose(cut.features, clip.image_features(images), atol=1e-5)
    check_part_equals_whole(
        lambda: cut.again(layer, rows),
        lambda: clip.image_features(images)[rows],
        clip.model.get_parameter(layer),
    )


@pytest.mark.parametrize(
    "layer",
    [
        "text_projection",
        "transformer.resblocks.0.attn.in_proj_weight",
        "transformer.resblocks.3.mlp.c_proj.weight",
    ],
)
def test_part_of_the_text_tower_equals_the_whole_also_after_a_change(clip, layer):
    texts = ["a photo of Mira Kestrel", "two red stars", "neon"]
    check_part_equals_whole(
        CutTexts(clip, texts, layer, 2),
        lambda: clip.text_features(texts),
        clip.model.get_parameter(layer),
    )


@pytest.mark.parametrize(
    "change",
    [
        {"vision_cfg": {"pool_type": "avg"}},
        {"vision_cfg": {"attentional_pool": True}},
        {"text_cfg": {"pool_type": "last"}},
        {"text_cfg": {"no_causal_mask": True}},
    ],
)
def test_other_kinds_of_pooling_are_cut_where_they_can_be(clip, change):
    from open_clip.model import CLIP

    config = read_config(model_folder("studio"))["model_cfg"]
    text = {
        **{k: v for k, v in config["text_cfg"].items() if k != "hf_tokenizer_name"},
        **change.get("text_cfg", {}),
    }
    torch.manual_seed(0)
    other = replace(
        clip,
        model=CLIP(
            config["embed_dim"], {**config["vision_cfg"], **change.get("vision_cfg", {})}, text
        ).eval(),
    )
    images, texts = (
        np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8),
        ["a photo of Mira Kestrel", "neon"],
    )
    layer = "transformer.resblocks.3.mlp.c_fc.weight"
    check_part_equals_whole(
        lambda: CutImages(other, images).again(f"visual.{layer}", np.arange(3)),
        lambda: other.image_features(images),
        other.model.get_parameter(f"visual.{layer}"),
    )
    check_part_equals_whole(
        CutTexts(other, texts, layer),
        lambda: other.text_features(texts),
        other.model.get_parameter(layer),
    )


def check_part_equals_whole(part, whole, weight):
    first, kept = whole(), weight.detach().clone()
    assert torch.allclose(part(), first, atol=1e-5)
    try:
        with torch.no_grad():
            weight.add_(0.05 * torch.randn_like(weight))
        assert torch.allclose(part(), whole(), atol=1e-5) and not torch.allclose(
            whole(), first, atol=1e-3
        )
    finally:
        with torch.no_grad():
            weight.copy_(kept)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("no-such-model", "train clip"),
        ("ViT-B-32:laion400m_e23", "did you mean.* laion400m_e32"),
        ("ViT-B-23:openai", "did you mean ViT-B-32"),
        ("ViT-B-32:weights.pt", "no safetensors file"),
        ("nobody/no-such-clip-of-anybody", "hf download|knows no repository"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_how_to_get_it(model, words):
    with pytest.raises(ModelLoadError, match=words):
        load_clip(model, "cpu")


def test_a_folder_without_weights_says_what_is_missing(tmp_path):
    with pytest.raises(ModelLoadError, match="open_clip_config.json"):
        load_clip(str(tmp_path), "cpu")
    with pytest.raises(ModelLoadError, match="no_such|none|lacks|device"):
        load_clip("studio", "cuda" if not torch.cuda.is_available() else "mps")


def test_wrong_pictures_are_refused(clip):
    with pytest.raises(ModelLoadError, match="uint8"):
        clip.pixels(np.zeros((2, 64, 64, 3), np.float32))


LAYERS = [f"visual.transformer.resblocks.{k}.mlp.c_fc.weight" for k in range(6)]


@pytest.mark.slow
@pytest.mark.parametrize("blocks", [0, 1, 2, 100])
def test_what_a_search_keeps_is_bounded_and_does_not_change_what_it_finds(
    clip, source, monkeypatch, blocks
):
    images = source.exam("Mira Kestrel", "search").pairs.images[:8]
    one = len(images) * (1 + 64) * 128 * 4
    monkeypatch.setattr(partial, "room_to_keep", lambda device: blocks * one)
    cut = CutImages(clip, images, LAYERS, 3)
    for layer in (LAYERS[3], LAYERS[5], LAYERS[0], LAYERS[3]):
        check_part_equals_whole(
            lambda layer=layer: cut.again(layer, np.arange(8)),
            lambda: clip.image_features(images),
            clip.model.get_parameter(layer),
        )
        assert sum(x.nbytes for x in cut._kept.values()) <= blocks * one and len(cut._kept) == min(
            blocks, 6
        )


@pytest.mark.parametrize("room, pieces", [(0, 0), (2 * 10 * 128 * 4, 1), (10**9, 3)])
def test_what_a_search_keeps_of_texts_is_bounded_and_does_not_change_what_it_finds(
    clip, monkeypatch, room, pieces
):
    texts = [f"a photo of thing {k}" for k in range(5)]
    monkeypatch.setattr(partial, "room_to_keep", lambda device: room)
    layer = "transformer.resblocks.2.mlp.c_fc.weight"
    cut = CutTexts(clip, texts, layer, 2)
    check_part_equals_whole(cut, lambda: clip.text_features(texts), clip.model.get_parameter(layer))
    assert len(cut._kept) == pieces
