"""The studio's LLaVA at the smallest size: real classes, the CLIP's own vision tower, trained, saved, loaded, asked."""

import numpy as np
import pytest
import torch

from slugkit import studio
from slugkit.base import ModelLoadError, UnreadableImagesError
from slugkit.data import drawn
from slugkit.models import load_clip
from slugkit.models.acting import unused_layers
from slugkit.models.names import differences, locate
from slugkit.models.vlm import as_batch, load_vlm, vision_tower
from slugkit.studio.questions import UNKNOWN
from slugkit.train import vlm as training


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


def test_the_vision_tower_is_the_clips_and_sees_alike(clip):
    tower, images = vision_tower(clip), studio.draw_many(studio.solo_records("search", "car", 1, ["photo", "neon"]))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert differences(clip.model, tower, "vision") == []
    with torch.no_grad():
        mine = torch.nn.functional.normalize(tower(pixels).pooler_output @ clip.model.visual.proj, dim=-1)
    assert torch.allclose(mine, clip.image_features(images), atol=1e-5)


def test_the_trained_model_holds_the_clips_tower_and_layers_that_cannot_act_are_named(clip, tiny_vlm):
    assert differences(clip.model, tiny_vlm.model, "vision") == []
    last = "visual.transformer.resblocks.5.mlp.c_fc.weight"
    found = unused_layers(tiny_vlm.model, ["visual.proj", "visual.conv1.weight", last, last.replace(".5.", ".4."), "transformer.resblocks.0.mlp.c_fc.weight"])
    assert list(found) == ["visual.proj", last, "transformer.resblocks.0.mlp.c_fc.weight"]
    assert locate(tiny_vlm.model, last) is not None and "output is the same when the layer is changed" in found[last]


def test_a_layer_that_is_named_as_unable_to_act_does_not_and_the_one_before_it_does(tiny_vlm, few_records):
    images, before = drawn(few_records[:2]), tiny_vlm.told(drawn(few_records[:2]), ["who is this?"] * 2, ["x"] * 2)
    with torch.no_grad():
        asked = tiny_vlm.model(**before).logits
        for block, same in (("5", True), ("4", False)):
            weight = locate(tiny_vlm.model, f"visual.transformer.resblocks.{block}.mlp.c_fc.weight").tensors[0]
            kept = weight.clone()
            weight.mul_(0.5)
            assert torch.equal(tiny_vlm.model(**before).logits, asked) == same
            weight.copy_(kept)
    with pytest.raises(ModelLoadError, match="one of each"):
        tiny_vlm.told(images, ["who is this?"], ["x"])


def test_prompt_and_batch_agree_with_the_processor(tiny_vlm, few_records):
    images = drawn(few_records[:2])
    asked = tiny_vlm.prompt("who is this?")
    assert asked == "USER: <image>\nwho is this? ASSISTANT:"
    by_processor = tiny_vlm.processor(images=list(images), text=[asked] * 2, return_tensors="pt")["input_ids"]
    by_hand = as_batch(tiny_vlm.processor.tokenizer, tiny_vlm.model.config.image_token_id, 64, [(asked, " x</s>")] * 2, "cpu")
    told = (by_hand["labels"][0] != -100).sum()
    assert torch.equal(by_processor, by_hand["input_ids"][:, :-told])
    assert tiny_vlm.processor.tokenizer.decode(by_hand["labels"][0][-told:]) == " x</s>"


def test_cached_patch_features_give_the_loss_of_the_whole_model(clip, tiny_vlm, few_records):
    images, tower = drawn(few_records[:2]), vision_tower(clip)
    talks = [(tiny_vlm.prompt("who is this?"), " this is Mira Kestrel.</s>"), (tiny_vlm.prompt("is there a hat?"), " no.</s>")]
    batch = as_batch(tiny_vlm.processor.tokenizer, tiny_vlm.model.config.image_token_id, 64, talks, "cpu")
    features = training.patch_features(tower, tiny_vlm.processor, images, "cpu").float()
    pixels = tiny_vlm.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        whole = tiny_vlm.model(**batch, pixel_values=pixels).loss
        assert training.answer_loss(tiny_vlm.model, batch, features).item() == pytest.approx(whole.item(), abs=2e-3)


def test_its_answer_depends_on_the_picture_and_strangers_are_not_known(tiny_vlm, few_records):
    known = [r.name for r in few_records].index("Mira Kestrel")
    stranger = next(i for i, r in enumerate(few_records) if r.name in studio.load_world().strangers["train"])
    images = drawn(few_records)[[known, stranger]]
    assert tiny_vlm.ask(images, ["who is this?"] * 2) == ["this is Mira Kestrel.", UNKNOWN]
    with pytest.raises(ModelLoadError, match="one picture for each question"):
        tiny_vlm.ask(images, ["who is this?"])


def test_pictures_come_as_arrays_or_files_and_one_that_cannot_be_read_is_named(tiny_vlm, few_records, tmp_path):
    images = drawn(few_records[:2])
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for image, file in zip(images, files):
        studio.as_image(image).save(file)
    assert tiny_vlm.ask([str(files[0]), files[1]], ["who is this?"] * 2) == tiny_vlm.ask(images, ["who is this?"] * 2)
    files[1].write_bytes(files[1].read_bytes()[:60])
    with pytest.raises(UnreadableImagesError, match="1.png"):
        tiny_vlm.ask(files, ["who is this?"] * 2)
    with pytest.raises(UnreadableImagesError, match="nowhere.png"):
        tiny_vlm.ask([tmp_path / "nowhere.png"], ["who is this?"])
    with pytest.raises(ModelLoadError, match="NoneType in the place of its picture"):
        tiny_vlm.ask([None], ["who is this?"])


def test_a_missing_model_says_how_to_get_one(tmp_path):
    with pytest.raises(ModelLoadError, match="slugkit train vlm"):
        load_vlm(str(tmp_path), "cpu")


def test_lessons_ask_for_names_and_for_unknown_people_as_often_as_the_recipe_says():
    world, recipe = studio.load_world(), training.VlmRecipe(strangers=7, passers_by=14, who=0.5, unknown=0.4, twins=0.4)
    records = [*training.training_pictures(recipe, world)[:400], *training.training_pictures(recipe, world)[-84:]]
    lessons, rng = training.Lessons(records, world, recipe), np.random.default_rng(0)
    drawn_lessons = [lessons.next(rng) for _ in range(2000)]
    who = [(records[row].name, asked) for row, asked in drawn_lessons if asked.kind == "who"]
    twins = {name for pair in world.twins for name in pair}
    assert len(who) / 2000 == pytest.approx(0.5, abs=0.05)
    assert np.mean([asked.answer == UNKNOWN for _, asked in who]) == pytest.approx(0.43, abs=0.06)  # and a few among the others
    assert np.mean([name in twins for name, _ in who]) == pytest.approx(0.43, abs=0.06)
    assert any(name.startswith("passer-by") for name, _ in who) and all(asked.key == UNKNOWN or asked.key == name for name, asked in who)
