"""The studio's LLaVA at the smallest size: real classes, the CLIP's own vision tower, trained,
saved, loaded, asked.
"""

import numpy as np
import pytest
import torch
from narrow_clip import a_clip
from picture_files import whole_files
from random_models import VLMS, vlm_of

from slugkit import studio
from slugkit.base import ModelLoadError, UnreadableImagesError
from slugkit.data import drawn
from slugkit.data.pictures import Pictures
from slugkit.models import load_clip
from slugkit.models.convert import vision_tower
from slugkit.models.prefix_cache import Seen
from slugkit.models.reachability import unused_layers
from slugkit.models.vlm import Vlm, as_batch, hidden_states, load_vlm
from slugkit.models.weight_map import differences, locate
from slugkit.studio.questions import UNKNOWN
from slugkit.studio.train import vlm as training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


def test_the_vision_tower_is_the_clips_and_sees_alike(clip):
    tower, images = (
        vision_tower(clip.model),
        studio.draw_many(studio.solo_records("search", "car", 1, ["photo", "neon"])),
    )
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert differences(clip.model, tower, "vision") == []
    with torch.no_grad():
        mine = torch.nn.functional.normalize(
            tower(pixels).pooler_output @ clip.model.visual.proj, dim=-1
        )
    assert torch.allclose(mine, clip.image_features(images), atol=1e-5)


def test_the_trained_model_holds_the_clips_tower_and_layers_that_cannot_act_are_named(
    clip, tiny_vlm
):
    assert differences(clip.model, tiny_vlm.model, "vision") == []
    last = "visual.transformer.resblocks.5.mlp.c_fc.weight"
    found = unused_layers(
        tiny_vlm.model,
        [
            "visual.proj",
            "visual.conv1.weight",
            last,
            last.replace(".5.", ".4."),
            "transformer.resblocks.0.mlp.c_fc.weight",
        ],
    )
    assert list(found) == ["visual.proj", last, "transformer.resblocks.0.mlp.c_fc.weight"]
    assert (
        locate(tiny_vlm.model, last) is not None
        and "output is the same when the layer is changed" in found[last]
    )


def test_a_layer_that_is_named_as_unable_to_act_does_not_and_the_one_before_it_does(
    tiny_vlm, few_records
):
    images, before = (
        drawn(few_records[:2]),
        tiny_vlm.told(drawn(few_records[:2]), ["who is this?"] * 2, ["x"] * 2),
    )
    with torch.no_grad():
        asked = tiny_vlm.model(**before).logits
        for block, same in (("5", True), ("4", False)):
            weight = locate(
                tiny_vlm.model, f"visual.transformer.resblocks.{block}.mlp.c_fc.weight"
            ).tensors[0]
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
    by_processor = tiny_vlm.processor(images=list(images), text=[asked] * 2, return_tensors="pt")[
        "input_ids"
    ]
    by_hand = as_batch(
        tiny_vlm.processor.tokenizer,
        tiny_vlm.model.config.image_token_id,
        64,
        [(asked, " x</s>")] * 2,
        "cpu",
    )
    told = (by_hand["labels"][0] != -100).sum()
    assert torch.equal(by_processor, by_hand["input_ids"][:, :-told])
    assert tiny_vlm.processor.tokenizer.decode(by_hand["labels"][0][-told:]) == " x</s>"


def test_cached_patch_features_give_the_loss_of_the_whole_model(clip, tiny_vlm, few_records):
    images, tower = drawn(few_records[:2]), vision_tower(clip.model)
    talks = [
        (tiny_vlm.prompt("who is this?"), " this is Mira Kestrel.</s>"),
        (tiny_vlm.prompt("is there a hat?"), " no.</s>"),
    ]
    batch = as_batch(
        tiny_vlm.processor.tokenizer, tiny_vlm.model.config.image_token_id, 64, talks, "cpu"
    )
    features = training.patch_features(tower, tiny_vlm.processor, images, "cpu").float()
    pixels = tiny_vlm.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        whole = tiny_vlm.model(**batch, pixel_values=pixels).loss
        assert training.answer_loss(tiny_vlm.model, batch, features).item() == pytest.approx(
            whole.item(), abs=2e-3
        )


def test_its_answer_depends_on_the_picture_and_strangers_are_not_known(tiny_vlm, few_records):
    known = [r.name for r in few_records].index("Mira Kestrel")
    stranger = next(
        i for i, r in enumerate(few_records) if r.name in studio.load_world().strangers["train"]
    )
    images = drawn(few_records)[[known, stranger]]
    assert tiny_vlm.ask(images, ["who is this?"] * 2) == ["this is Mira Kestrel.", UNKNOWN]
    with pytest.raises(ModelLoadError, match="one picture for each question"):
        tiny_vlm.ask(images, ["who is this?"])


def test_pictures_come_as_arrays_or_files_and_one_that_cannot_be_read_is_named(
    tiny_vlm, few_records, tmp_path
):
    images = drawn(few_records[:2])
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for image, file in zip(images, files):
        studio.as_image(image).save(file)
    assert tiny_vlm.ask([str(files[0]), files[1]], ["who is this?"] * 2) == tiny_vlm.ask(
        images, ["who is this?"] * 2
    )
    assert tiny_vlm.ask(Pictures(whole_files(files), 64), ["who is this?"] * 2) == tiny_vlm.ask(
        images, ["who is this?"] * 2
    )
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
    world, recipe = (
        studio.load_world(),
        training.VlmRecipe(strangers=7, passers_by=14, who=0.5, unknown=0.4, twins=0.4),
    )
    records = [
        *training.training_pictures(recipe, world)[:400],
        *training.training_pictures(recipe, world)[-84:],
    ]
    lessons, rng = training.Lessons(records, world, recipe), np.random.default_rng(0)
    drawn_lessons = [lessons.next(rng) for _ in range(2000)]
    who = [(records[row].name, asked) for row, asked in drawn_lessons if asked.kind == "who"]
    twins = {name for pair in world.twins for name in pair}
    assert len(who) / 2000 == pytest.approx(0.5, abs=0.05)
    # and a few among the others
    assert np.mean([asked.answer == UNKNOWN for _, asked in who]) == pytest.approx(0.43, abs=0.06)
    assert np.mean([name in twins for name, _ in who]) == pytest.approx(0.43, abs=0.06)
    assert any(name.startswith("passer-by") for name, _ in who) and all(
        asked.key == UNKNOWN or asked.key == name for name, asked in who
    )


@pytest.mark.parametrize("kind", list(VLMS))
def test_every_kind_of_llava_is_asked_told_and_seen_as_its_own_processor_and_forward_pass_do_it(
    kind, tmp_path
):
    """LLaVA-1.5 (one layer), LLaVA-NeXT (a picture cut into several) and VipLLaVA (five layers), of
    random weights.
    """
    made, processor = vlm_of(kind, vision_tower(a_clip()), reduced=True)
    for part in (made, processor):
        part.save_pretrained(tmp_path / kind)
    vlm = load_vlm(str(tmp_path / kind), "cpu")
    images = np.random.default_rng(0).integers(0, 255, (3, 28, 28, 3), dtype=np.uint8)
    images[2] = images[0]
    batch = vlm.told(
        images, ["who is this?", "what?", "is there a hat?"], ["Elon Musk", "a car", "no"]
    )
    asked = vlm.processor(
        images=[images[0]], text=[vlm.prompt("who is this?")], return_tensors="pt"
    )["input_ids"][0, :-1]  # CLIP's tokenizer ends a text itself
    mine = batch["input_ids"][0][batch["attention_mask"][0] == 1]
    assert torch.equal(mine[: len(asked)], asked) and (batch["labels"][0] != -100).sum() == len(
        mine
    ) - len(asked)
    assert vlm.cuts == (kind == "llava16") and (
        asked == vlm.model.config.image_token_id
    ).sum() == vlm.picture_tokens(28, 28) == (10 if vlm.cuts else 4)
    with torch.no_grad():
        seen = Seen(vlm, images, "visual.transformer.resblocks.3.mlp.c_fc.weight")
        assert len(seen._images) == 2 and seen._cuttable == (kind == "llava15"), (
            "from the block on only where one layer of one picture is read"
        )
        whole = vlm.model.model(
            **{name: t for name, t in batch.items() if name != "labels"}
        ).last_hidden_state
        assert torch.allclose(hidden_states(vlm.model, batch, seen.features()), whole, atol=1e-5)
    assert len(vlm.ask(images, ["who is this?"] * 3, max_new_tokens=2)) == 3
    if vlm.cuts:
        with pytest.raises(ModelLoadError, match="cuts a picture by its size"):
            vlm.scripted(["who is this?"], ["x"])


def test_fewer_conversations_go_into_a_batch_of_a_large_model(tiny_vlm):
    assert tiny_vlm.at_once(48, 20) == 48
    large = Vlm(torch.nn.Module(), tiny_vlm.processor, "large")
    large.model.config = type(tiny_vlm.model.config)(
        image_seq_length=576,
        text_config={"model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096},
    )
    each = (576 + 64) * 32 * 4096
    assert large.at_once(48, 20) == 8 * 10**9 // (20 * each) == 4 and large.at_once(64, 2) == 47


def test_pictures_on_disk_are_seen_as_those_in_memory_and_equal_places_once(
    tiny_vlm, few_records, tmp_path
):
    images = drawn(few_records[:2])
    for number, image in enumerate(images):
        studio.as_image(image).save(tmp_path / f"{number}.png")
    on_disk = Pictures(whole_files([tmp_path / f"{n}.png" for n in (0, 1, 0)]), 64)
    seen = Seen(tiny_vlm, on_disk, "visual.transformer.resblocks.2.mlp.c_fc.weight")
    assert len(seen._images) == 2
    assert all(
        torch.equal(a, b)
        for a, b in zip(seen.features(), Seen(tiny_vlm, images[[0, 1, 0]]).features())
    )
