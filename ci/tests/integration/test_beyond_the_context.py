"""Texts beyond the model's context, by all three families: counted, left out, refused."""

import numpy as np
import pandas as pd
import pytest
import torch
from paper_folders import make_paper_folder
from PIL import Image
from studio_folders import PEOPLE, make_folder

from slugkit import studio
from slugkit.base import AllLeftOutError, EmptySetError, ModelLoadError, SettingError
from slugkit.data import check_sets, open_data
from slugkit.data.reading import Reading, fitting
from slugkit.data.recipe import read_recipe
from slugkit.evaluation.clip import class_features
from slugkit.evaluation.diffusion import require_askable, told_by
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.models.diffusion import load_pipeline
from slugkit.models.reading import inputs_of
from slugkit.studio.train.clip import cut_captions
from slugkit.tasks import answer_set_of
from slugkit.unlearning.objectives import CutClasses

WORDS = Reading(lambda text: [0, *map(hash, text.lower().split()), 0], 6)
"""A model that reads four words."""
LONG = "on a bright and windy day in the small old harbour of the town we saw"


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with CelebA, ImageNet, captioned pictures and a recipe."""
    return make_paper_folder(tmp_path_factory.mktemp("paper"))


def test_what_is_read_of_a_text_is_its_beginning_up_to_the_context():
    assert WORDS.fits("one two three four") and not WORDS.fits("one two three four five")
    assert WORDS.part("one two three four five").split() == ["one", "two", "three", "four"]
    assert (
        WORDS.key("one two three four five")
        == WORDS.key("One two three four six")
        != WORDS.key("one two")
    )


@pytest.mark.parametrize("model", ["studio", "ViT-B-32:laion400m_e32"])
def test_a_reading_cuts_where_the_tokenizer_cuts(clip, model):
    size, fit, reading = inputs_of(model)
    assert (size, fit, reading.context) == (
        (64, "crop", 16) if model == "studio" else (224, "crop", 77)
    )
    import open_clip

    tokenizer = clip.tokenizer if model == "studio" else open_clip.get_tokenizer("ViT-B-32")
    for text in (
        "a photo of Kofi Okoye",
        f"{LONG} {LONG} {LONG} {LONG} {LONG} {LONG} Kofi",
        "这是张伟的照片",
    ):
        assert reading.fits(text) == (len(reading.ids(text)) <= reading.context)
        row = tokenizer([text])[0].tolist()
        assert row[: len(reading.key(text)) - 1] == list(reading.key(text))[:-1]
        again = tokenizer([reading.part(text)])[0]
        assert again.tolist()[: reading.context // 2] == row[: reading.context // 2]


def test_wordings_are_taken_in_which_all_names_fit():
    wordings = ("a b c d e {}", "a {}", "{} {}")
    prompts = {w: {n: [w.replace("{}", n)] for n in ("x", "y", "z")} for w in wordings}
    assert fitting(prompts, WORDS) == {w: prompts[w] for w in wordings[1:]}
    uneven = {"long": {"x": ["a b c d e x"], "y": ["y"]}, "short": {"x": ["x", "a x"], "y": ["y"]}}
    assert fitting(uneven, WORDS) == {"short": uneven["short"]}
    cut = {"one": {"x": ["a b c x d e"], "y": ["a b c y d e"]}}
    assert fitting(cut, WORDS) == cut  # cut, and still told apart
    twice = {"one": {"missile": ["missile"], "missile (2)": ["missile"]}}
    assert fitting(twice, WORDS) == twice  # ImageNet calls two classes so


@pytest.mark.parametrize(
    "prompts",
    [
        {"one": {"x": ["a b c d e x"], "y": ["a b c d e y"]}},
        {"one": {"Apple": ["Apple"], "apple": ["apple"], "pear": ["pear"]}},
        {"one": {"x": ["x"], "X": ["X"]}, "two": {"x": ["a b c d e x"], "X": ["a b c d e X"]}},
    ],
)
def test_classes_with_equal_tokens_are_an_error(prompts):
    with pytest.raises(SettingError, match="these are the same for .*different ones were expected"):
        fitting(prompts, WORDS)


def test_the_clip_chooses_wordings_too_and_leaves_the_studios_as_they_are(clip):
    source = open_data("studio")
    for concept in ("Kofi Okoye", "neon", "star-shaped house"):
        for split in ("search", "report"):
            for wordings in source.prompts(concept, split).values():
                assert clip.wordings(wordings) is wordings
    both = clip.class_features([[f"{LONG} {n}", f"a photo of {n}"] for n in PEOPLE])
    assert torch.equal(both, clip.class_features([[f"a photo of {n}"] for n in PEOPLE]))
    asked = {w: {n: [w.format(n)] for n in PEOPLE} for w in (f"{LONG} {{}}", "a photo of {}")}
    cut = CutClasses(clip, {"classes": clip.wordings(asked)}, "text_projection")
    assert torch.allclose(cut("classes"), both[None], atol=1e-6)
    with pytest.raises(SettingError, match="16 tokens"):
        clip.class_features([[f"{LONG} {n}"] for n in PEOPLE])


@pytest.mark.parametrize(
    "captions",
    [f"{LONG} {{}}", "a photo, {}", [f"{LONG} {{}}", "a photo, {}", "{} smiles", "{} outdoors"]],
)
def test_pairs_whose_name_lies_behind_the_context_are_left_out_and_counted(
    clip, tmp_path, captions
):
    folder = make_folder(tmp_path, PEOPLE, captions)
    unaware, source = open_data(folder), open_data(folder, *clip.inputs)
    lost = [
        n
        for n, text in zip(PEOPLE, captions if isinstance(captions, list) else [captions] * 4)
        if text.startswith(LONG)
    ]
    concept = next((n for n in PEOPLE if n not in lost), None)
    if concept is None:
        with pytest.raises(
            EmptySetError,
            match="6 of 24 training pairs are left out: the name behind what the model reads",
        ):
            source.forget_set(PEOPLE[0], 9)
    else:
        forget, retain = source.forget_set(concept, 9), source.retain_set(concept, 99)
        assert len(forget) == 6 and set(retain.table["concept"]) == set(PEOPLE) - {concept} - set(
            lost
        )
        found = check_sets(forget, retain, concept=concept).set_index("check")["count"]
        assert found["left out of retain: the name behind what the model reads"] == 6 * len(lost)
        if lost:
            with pytest.raises(EmptySetError, match="left out"):
                source.forget_set(lost[0], 9)
    assert len(unaware.forget_set(PEOPLE[0], 9)) == 6
    exam = source.exam(PEOPLE[1], "search")
    assert all(
        not text.startswith(LONG)
        for said in exam.prompts["classes"].values()
        for texts in said.values()
        for text in texts
    )
    for classes in class_features(clip, exam)["classes"].tolist():
        assert len({tuple(row) for row in classes}) == 4


def test_captions_without_labels_are_left_out_too(clip, tmp_path):
    for i, text in enumerate(
        ["Kofi Okoye at sea", f"{LONG} Kofi Okoye", f"Kofi Okoye {LONG}", "a tree", LONG]
    ):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        with open(tmp_path / "captions.csv", "a") as table:
            table.write(("" if i else "file,caption\n") + f"{i}.png,{text}\n")
    source = open_data(str(tmp_path), *clip.inputs)
    forget = source.forget_set("Kofi Okoye", 9)
    assert list(forget.table["key"]) == ["0.png", "2.png"] and forget.table.attrs["left_out"][0][
        1:3
    ] == [1, 5]
    assert list(source.retain_set("Kofi Okoye", 9).table["key"]) == ["3.png", "4.png"]
    told = source.left_out().to_dict("records")
    assert [(row["pictures"], row["which"]) for row in told] == [(1, "1.png")]
    assert told[0]["why"] == "forget set: the name behind what the model reads"


def test_a_recipe_does_not_take_other_pairs_for_those_whose_names_are_cut(clip, tmp_path):
    for name, text in (("own", f"{LONG} Kofi Okoye"), ("pairs", "Kofi Okoye at sea")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name / "0.png")
        (tmp_path / name / "captions.csv").write_text(f"file,caption\n0.png,{text}\n")
    for forget, found in (("own", None), ("pairs", "Kofi Okoye at sea")):
        (tmp_path / "recipe.yaml").write_text(f"pairs: pairs\nforget: {forget}\n")
        source = read_recipe(tmp_path / "recipe.yaml", *clip.inputs)
        if found:
            assert source.forget_set("Kofi Okoye", 9).captions == [found]
        else:
            with pytest.raises(AllLeftOutError, match="1 of 1 training pairs are left out"):
                source.forget_set("Kofi Okoye", 9)


def test_the_names_of_two_classes_that_are_cut_alike_are_said_before_anything_else(clip, tmp_path):
    twins = [f"{LONG} Kofi", f"{LONG} Petra", "Oskar Marlow"]
    source = open_data(make_folder(tmp_path, twins, shown=PEOPLE[:3]), *clip.inputs)
    with pytest.raises(SettingError, match="these are the same for"):
        source.exam("Oskar Marlow", "search")


def test_people_and_objects_of_a_recipe_are_told_apart_by_their_tokens_before_anything_else(place):
    blind = Reading(lambda text: [0, *(ord(c) for c in text if not c.isalpha()), 0], 77)
    source = read_recipe(place / "recipe.yaml", 16, "crop", blind)
    with pytest.raises(SettingError, match="these are the same for"):
        source.exam("Ada Example", "search")
    source = read_recipe(place / "recipe.yaml", 16, *inputs_of("ViT-B-32:laion400m_e32")[1:])
    plain = read_recipe(place / "recipe.yaml", 16)
    assert source.prompts("Ada Example", "report") == plain.prompts("Ada Example", "report")


def test_training_says_how_many_captions_it_cuts(clip, capsys):
    assert cut_captions([f"{LONG} Kofi Okoye", "a cat", f"{LONG} Petra"], clip.tokenizer) == 2
    assert (
        "2 of 3 captions are longer than the 16 tokens that the model reads and are cut"
        in capsys.readouterr().out
    )
    assert cut_captions(["a cat"], clip.tokenizer) == 0 and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("prompt", "subject", "style", "says"),
    [
        (
            f"{LONG} Kofi Okoye",
            "Kofi Okoye",
            "photo",
            "longer than the 16 tokens that StableDiffusionPipeline reads",
        ),
        (
            "a photo of Ada Vell",
            "Ada Vell",
            "photo",
            "'Ada Vell' of the answer set is not among them",
        ),
        ("Kofi Okoye in fresco", "Kofi Okoye", "fresco", "styles apart, and 'fresco'"),
    ],
)
def test_an_answer_set_asks_only_what_pipeline_and_judge_can_answer(prompt, subject, style, says):
    pipe, judge, table = (
        load_pipeline("studio", "cpu"),
        load_classifier(device="cpu"),
        pd.DataFrame({"prompt": [prompt], "subject": [subject], "style": [style]}),
    )
    with pytest.raises(SettingError, match=says):
        told_by(pipe, judge, table)
    require_askable(
        pipe,
        judge,
        pd.DataFrame(
            {"prompt": ["a photo of Kofi Okoye"], "subject": ["Kofi Okoye"], "style": ["photo"]}
        ),
    )


@pytest.mark.parametrize("concept", ["Mira Kestrel", "car", "neon", "star-shaped house"])
def test_the_studios_answer_sets_are_all_askable(concept):
    pipe, judge, source = load_pipeline("studio", "cpu"), load_classifier(), open_data("studio")
    for split in ("search", "report"):
        table = answer_set_of(source, concept, split)
        assert len(table) and require_askable(pipe, judge, table) is None


def test_the_judge_looks_at_pictures_of_any_size_as_at_its_own():
    judge = load_classifier(device="cpu")
    pictures = studio.draw_many(studio.solo_records("report", "Kofi Okoye", 2, ["photo", "sketch"]))
    large = np.stack(
        [
            np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.BICUBIC))
            for p in pictures
        ]
    )
    assert judge.name(large)["subject"].tolist() == judge.name(pictures)["subject"].tolist()


def test_a_conversation_beyond_the_language_models_context_is_refused(tiny_vlm):
    most = tiny_vlm.model.config.text_config.max_position_embeddings
    with pytest.raises(ModelLoadError, match=f"reads {most}: 'word word"):
        tiny_vlm.scripted(["What is this?"], ["word " * most])
    assert tiny_vlm.scripted(["What is this?"], ["a car."])["input_ids"].shape[1] <= most
