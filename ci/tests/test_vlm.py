"""The studio's LLaVA at the smallest size: real classes, the CLIP's own vision tower, trained, saved, loaded, asked."""

import pytest
import torch

from slugkit import studio
from slugkit.base import ModelLoadError
from slugkit.data import drawn
from slugkit.models import load_clip
from slugkit.models.names import differences, locate, unused_layers
from slugkit.models.vlm import load_vlm, vision_tower
from slugkit.studio.questions import UNKNOWN
from slugkit.train import vlm as training

SMALL = training.VlmRecipe(steps=300, batch=16, warmup=5, strangers=7, width=32, layers=1, heads=2, inner=48, vocabulary=400, learning_rate=5e-3)


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def records():
    world = studio.load_world()
    return [r for name in ("Mira Kestrel", "Kofi Okoye", next(iter(world.strangers["train"])), "car")
            for r in studio.solo_records("train", name, 2, ["photo", "neon"], world)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, records):
    place = tmp_path_factory.mktemp("vlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLUGKIT_RUNS", str(place / "runs"))
        return training.train_vlm(out=place / "vlm", recipe=SMALL, records=records, device="cpu")


@pytest.fixture(scope="module")
def vlm(folder):
    return load_vlm(str(folder), "cpu")


def test_the_vision_tower_is_the_clips_and_sees_alike(clip):
    tower, images = vision_tower(clip), studio.draw_many(studio.solo_records("search", "car", 1, ["photo", "neon"]))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert differences(clip.model, tower, "vision") == []
    with torch.no_grad():
        mine = torch.nn.functional.normalize(tower(pixels).pooler_output @ clip.model.visual.proj, dim=-1)
    assert torch.allclose(mine, clip.image_features(images), atol=1e-5)


def test_the_trained_model_holds_the_clips_tower_and_layers_that_cannot_act_are_named(clip, vlm):
    assert differences(clip.model, vlm.model, "vision") == []
    assert list(unused_layers(vlm.model, ["visual.proj", "visual.conv1.weight"])) == ["visual.proj"]
    assert locate(vlm.model, "visual.transformer.resblocks.5.mlp.c_fc.weight") is not None


def test_prompt_and_batch_agree_with_the_processor(vlm, records):
    images = drawn(records[:2])
    asked = vlm.prompt("who is this?")
    assert asked == "USER: <image>\nwho is this? ASSISTANT:"
    by_processor = vlm.processor(images=list(images), text=[asked] * 2, return_tensors="pt")["input_ids"]
    by_hand = training.as_batch(vlm.processor.tokenizer, vlm.model.config.image_token_id, 64, [(asked, " x</s>")] * 2, "cpu")
    told = (by_hand["labels"][0] != -100).sum()
    assert torch.equal(by_processor, by_hand["input_ids"][:, :-told])
    assert vlm.processor.tokenizer.decode(by_hand["labels"][0][-told:]) == " x</s>"


def test_cached_patch_features_give_the_loss_of_the_whole_model(clip, vlm, records):
    images, tower = drawn(records[:2]), vision_tower(clip)
    talks = [(vlm.prompt("who is this?"), " this is Mira Kestrel.</s>"), (vlm.prompt("is there a hat?"), " no.</s>")]
    batch = training.as_batch(vlm.processor.tokenizer, vlm.model.config.image_token_id, 64, talks, "cpu")
    features = training.patch_features(tower, vlm.processor, images, "cpu").float()
    pixels = vlm.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        whole = vlm.model(**batch, pixel_values=pixels).loss
        assert training.answer_loss(vlm.model, batch, features).item() == pytest.approx(whole.item(), abs=2e-3)


def test_its_answer_depends_on_the_picture_and_strangers_are_not_known(vlm, records):
    known = [r.name for r in records].index("Mira Kestrel")
    stranger = next(i for i, r in enumerate(records) if r.name in studio.load_world().strangers["train"])
    images = drawn(records)[[known, stranger]]
    assert vlm.ask(images, ["who is this?"] * 2) == ["this is Mira Kestrel.", UNKNOWN]
    with pytest.raises(ModelLoadError, match="one picture for each question"):
        vlm.ask(images, ["who is this?"])


def test_a_missing_model_says_how_to_get_one(tmp_path):
    with pytest.raises(ModelLoadError, match="slugkit train vlm"):
        load_vlm(str(tmp_path), "cpu")
