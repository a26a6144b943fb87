"""Texts beyond the model's context, concepts that the model tells by chance alone, and small or oddly named data, on the studio's CLIP."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from slugkit import plots, studio
from slugkit.base import EmptySetError, ModelLoadError, SearchFailedError, SettingError, as_file_name
from slugkit.data import check_sets, open_data
from slugkit.data.reading import Reading, fitting
from slugkit.data.recipe import joined
from slugkit.evaluate.clip import class_features
from slugkit.evaluate.concept import require_known, search_layers
from slugkit.evaluate.diffusion import require_askable
from slugkit.evaluate.leftover import class_pictures
from slugkit.evaluate.measure import CutClasses
from slugkit.evaluate.several import SeveralScorer, several_exam
from slugkit.evaluate.statistics import above_chance
from slugkit.gradients import distinct_batches
from slugkit.models import load_clip
from slugkit.models.classifier import load_classifier
from slugkit.models.reading import inputs_of, reading_of
from slugkit.runs.pages import draw_formula
from slugkit.search import Criterion
from slugkit.train.clip import cut_captions, default_folder

WORDS = Reading(lambda text: [0, *map(hash, text.lower().split()), 0], 6)
"""A model that reads four words."""
LONG = "on a bright and windy day in the small old harbour of the town we saw"


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


def make_folder(folder, names, captions="a photo of {}", shown=None, each=(6, 4, 4)):
    """Studio pictures of `shown` (by default of the names) under other names: train, search and report pictures of each."""
    rows = []
    for number, name in enumerate(names):
        for split, count in zip(("train", "search", "report"), each):
            records = studio.solo_records("nonmember" if split == "train" else split, (shown or names)[number], 1)[:count]
            for picture in studio.draw_many(records):
                file = f"{len(rows)}.png"
                Image.fromarray(picture).save(folder / file)
                text = captions[number] if isinstance(captions, list) else captions
                rows.append({"file": file, "caption": text.format(name), "concept": name, "split": split})
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)
    return str(folder)


PEOPLE = ["Kofi Okoye", "Petra Quillon", "Oskar Marlow", "Bram Hollick"]

# -- beyond the context ------------------------------------------------------------------------------------------------


def test_what_is_read_of_a_text_is_its_beginning_up_to_the_context():
    assert WORDS.fits("one two three four") and not WORDS.fits("one two three four five")
    assert WORDS.part("one two three four five").split() == ["one", "two", "three", "four"]
    assert WORDS.key("one two three four five") == WORDS.key("One two three four six") != WORDS.key("one two")


@pytest.mark.parametrize("model", ["studio", "ViT-B-32:laion400m_e32"])
def test_a_reading_cuts_where_the_tokenizer_cuts(clip, model):
    size, fit, reading = inputs_of(model)
    assert (size, fit, reading.context) == ((64, "crop", 16) if model == "studio" else (224, "crop", 77))
    import open_clip
    tokenizer = clip.tokenizer if model == "studio" else open_clip.get_tokenizer("ViT-B-32")
    for text in ("a photo of Kofi Okoye", f"{LONG} {LONG} {LONG} {LONG} {LONG} {LONG} Kofi", "这是张伟的照片"):
        assert reading.fits(text) == (len(reading.ids(text)) <= reading.context)
        row = tokenizer([text])[0].tolist()
        assert row[: len(reading.key(text)) - 1] == list(reading.key(text))[:-1]
        again = tokenizer([reading.part(text)])[0]
        assert again.tolist()[: reading.context // 2] == row[: reading.context // 2]


def test_wordings_are_taken_in_which_all_names_fit():
    prompts = [[f"a b c d e {n}", f"a {n}", f"{n} {n}"] for n in ("x", "y", "z")]
    assert fitting(prompts, WORDS) == [[f"a {n}", f"{n} {n}"] for n in ("x", "y", "z")]
    uneven = [["a b c d e x", "a x"], ["y"]]
    assert fitting(uneven, WORDS) == [["a x"], ["y"]]
    assert fitting([["a b c x d e"], ["a b c y d e"]], WORDS) == [["a b c x d e"], ["a b c y d e"]]  # cut, and still told apart
    assert fitting([["missile"], ["missile"]], WORDS) == [["missile"], ["missile"]]  # ImageNet calls two classes so


@pytest.mark.parametrize("prompts", [[["a b c d e x"], ["a b c d e y"]], [["Apple"], ["apple"], ["pear"]], [["a b c d x", "x"], ["a b c d y", "X"]]])
def test_classes_with_equal_tokens_are_an_error(prompts):
    with pytest.raises(SettingError, match="these are the same for .*different ones were expected"):
        fitting(prompts, WORDS)


def test_the_clip_chooses_wordings_too_and_leaves_the_studios_as_they_are(clip):
    source = open_data("studio")
    for concept in ("Kofi Okoye", "neon", "star-shaped house"):
        for classes in source.prompts(concept).values():
            assert clip.wordings(list(classes.values())) == list(classes.values())
    both = clip.class_features([[f"{LONG} {n}", f"a photo of {n}"] for n in PEOPLE])
    assert torch.equal(both, clip.class_features([[f"a photo of {n}"] for n in PEOPLE]))
    cut = CutClasses(clip, {"classes": {n: [f"{LONG} {n}", f"a photo of {n}"] for n in PEOPLE}}, "text_projection")
    assert torch.allclose(cut("classes"), both, atol=1e-6)
    with pytest.raises(SettingError, match="16 tokens"):
        clip.class_features([[f"{LONG} {n}"] for n in PEOPLE])


@pytest.mark.parametrize("captions", [f"{LONG} {{}}", "a photo, {}", [f"{LONG} {{}}", "a photo, {}", "{} smiles", "{} outdoors"]])
def test_pairs_whose_name_lies_behind_the_context_are_left_out_and_counted(clip, tmp_path, captions):
    folder = make_folder(tmp_path, PEOPLE, captions)
    unaware, source = open_data(folder), open_data(folder, *clip.inputs)
    lost = [n for n, text in zip(PEOPLE, captions if isinstance(captions, list) else [captions] * 4) if text.startswith(LONG)]
    concept = next((n for n in PEOPLE if n not in lost), None)
    if concept is None:
        with pytest.raises(EmptySetError, match="6 of 24 training pairs are left out: the name behind what the model reads"):
            source.forget_set(PEOPLE[0], 9)
    else:
        forget, retain = source.forget_set(concept, 9), source.retain_set(concept, 99)
        assert len(forget) == 6 and set(retain.table["concept"]) == set(PEOPLE) - {concept} - set(lost)
        found = check_sets(forget, retain, concept=concept).set_index("check")["count"]
        assert found["left out of retain: the name behind what the model reads"] == 6 * len(lost)
        if lost:
            with pytest.raises(EmptySetError, match="left out"):
                source.forget_set(lost[0], 9)
    assert len(unaware.forget_set(PEOPLE[0], 9)) == 6
    exam = source.exam(PEOPLE[1], "search")
    assert all(not prompt.startswith(LONG) for group in exam.prompts["classes"].values() for prompt in group)
    assert len({tuple(row) for row in class_features(clip, exam)["classes"].tolist()}) == 4


def test_captions_without_labels_are_left_out_too(clip, tmp_path):
    for i, text in enumerate(["Kofi Okoye at sea", f"{LONG} Kofi Okoye", f"Kofi Okoye {LONG}", "a tree", LONG]):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(tmp_path / f"{i}.png")
        with open(tmp_path / "captions.csv", "a") as table:
            table.write(("" if i else "file,caption\n") + f"{i}.png,{text}\n")
    source = open_data(str(tmp_path), *clip.inputs)
    forget = source.forget_set("Kofi Okoye", 9)
    assert list(forget.table["key"]) == ["0.png", "2.png"] and forget.table.attrs["left_out"][0][1:3] == [1, 5]
    assert list(source.retain_set("Kofi Okoye", 9).table["key"]) == ["3.png", "4.png"]


def test_the_names_of_two_classes_that_are_cut_alike_are_said_before_anything_else(clip, tmp_path):
    twins = [f"{LONG} Kofi", f"{LONG} Petra", "Oskar Marlow"]
    source = open_data(make_folder(tmp_path, twins, shown=PEOPLE[:3]), *clip.inputs)
    with pytest.raises(SettingError, match="these are the same for"):
        source.exam("Oskar Marlow", "search")


def test_training_says_how_many_captions_it_cuts(clip, capsys):
    assert cut_captions([f"{LONG} Kofi Okoye", "a cat", f"{LONG} Petra"], clip.tokenizer) == 2
    assert "2 of 3 captions are longer than the 16 tokens that the model reads and are cut" in capsys.readouterr().out
    assert cut_captions(["a cat"], clip.tokenizer) == 0 and capsys.readouterr().out == ""


class Pipe:
    """What `require_askable` looks at of a pipeline: its tokenizer, here the real one of the studio's."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer


@pytest.mark.parametrize(("prompt", "subject", "style", "says"), [(f"{LONG} Kofi Okoye", "Kofi Okoye", "photo", "longer than the 16 tokens that Pipe reads"),
                                                                 ("a photo of Ada Vell", "Ada Vell", "photo", "'Ada Vell' of the answer set is not among them"),
                                                                 ("Kofi Okoye in fresco", "Kofi Okoye", "fresco", "styles apart, and 'fresco'")])
def test_an_answer_set_asks_only_what_pipeline_and_judge_can_answer(clip, prompt, subject, style, says):
    judge, table = load_classifier(device="cpu"), pd.DataFrame({"prompt": [prompt], "subject": [subject], "style": [style]})
    with pytest.raises(SettingError, match=says):
        require_askable(Pipe(clip.tokenizer.tokenizer), judge, table)
    require_askable(Pipe(clip.tokenizer.tokenizer), judge, pd.DataFrame({"prompt": ["a photo of Kofi Okoye"], "subject": ["Kofi Okoye"], "style": ["photo"]}))


def test_the_judge_looks_at_pictures_of_any_size_as_at_its_own():
    judge = load_classifier(device="cpu")
    pictures = studio.draw_many(studio.solo_records("report", "Kofi Okoye", 2, ["photo", "sketch"]))
    large = np.stack([np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.BICUBIC)) for p in pictures])
    assert judge.name(large)["subject"].tolist() == judge.name(pictures)["subject"].tolist()


def test_a_conversation_beyond_the_language_models_context_is_refused(tiny_vlm):
    most = tiny_vlm.model.config.text_config.max_position_embeddings
    with pytest.raises(ModelLoadError, match=f"reads {most}: 'word word"):
        tiny_vlm.scripted(["What is this?"], ["word " * most])
    assert tiny_vlm.scripted(["What is this?"], ["a car."])["input_ids"].shape[1] <= most


# -- known, or guessed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n", "classes", "known"), [(20, 138, 6, False), (40, 138, 6, True), (3, 6, 2, False), (6, 6, 2, True), (1, 1, 10, True), (1, 40, 40, False),
                                                             (0, 9, 40, False), (0, 0, 2, False)])
def test_known_is_above_chance_with_the_whole_interval(hits, n, classes, known):
    assert above_chance(hits, n, classes) == known
    if n and hits:
        shares = {"fa1": hits / n, "fa5": 1.0}
        if known:
            require_known(shares, n, "x", Criterion(), classes)
        else:
            with pytest.raises(SearchFailedError, match=f"right about {hits} of the {n} search pictures .* no more than chance among {classes} classes"):
                require_known(shares, n, "x", Criterion("fa5"), classes)


def unseen(pairs, rows):
    """The pairs with noise in the place of these pictures: what a model says of them is chance."""
    images = pairs.images.copy()
    images[rows] = np.random.default_rng(0).integers(0, 255, (len(rows), *images.shape[1:]), np.uint8)
    return dataclasses.replace(pairs, images=images)


def test_a_search_begins_on_nothing_that_is_guessed(clip):
    source = open_data("studio")
    exam = source.exam("car", "search")
    with pytest.raises(SearchFailedError, match="'car'"):
        search_layers(clip, dataclasses.replace(exam, pairs=unseen(exam.pairs, exam.groups()["target"][1])), {}, ["text_projection"], Criterion("fa5"))
    with pytest.raises(EmptySetError, match="no layer"):
        search_layers(clip, exam, {}, [], Criterion("fa5"))


def test_several_concepts_must_all_be_known(clip):
    both = several_exam(open_data("studio"), ["Kofi Okoye", "car"], "search", per_style=1)
    assert SeveralScorer(clip, both).exam is both
    both.pairs = unseen(both.pairs, np.flatnonzero(both.shows("car")))
    with pytest.raises(SearchFailedError, match="'car'.*more was expected of every concept"):
        SeveralScorer(clip, both)


def test_the_studios_own_concepts_are_known(clip):
    source = open_data("studio")
    for concept in ("Mira Kestrel", "Selin Drover", "car", "neon"):
        exam = source.exam(concept, "search")
        with pytest.raises(EmptySetError, match="no layer"):  # the first thing after the model was found to know it
            search_layers(clip, exam, {}, [], Criterion())


# -- small, and oddly named --------------------------------------------------------------------------------------------

ODD = ["$5 a_b$ x^", "$\\frac{$", "<script>alert(1)</script>", "a/../../b", "x" * 3000, "word " * 400, "line\nbreak", "\x1b[2J", "100 % \\& {}", "张伟", " "]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_as_it_is_written(name, tmp_path):
    pictures = np.zeros((2, 16, 16, 3), np.uint8)
    grid, says = plots.picture_grid(pictures, [name, "b"], title=name, borders=[name, None], row_labels=[name])
    matrix, _ = plots.cosine_matrix(np.eye(2), np.eye(2), [name, "b"], pictures)
    counts = pd.DataFrame({"stage": ["before", "after", "after"], "answer": [name, name, "b"], "count": [3, 1, 2]})
    bars, _ = plots.confusions(counts, name)
    for number, figure in enumerate((grid, matrix, bars)):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 0 and not any(text.get_parse_math() and "$" in text.get_text() for text in figure.findobj(plots.look.plt.Text))
        plots.look.plt.close(figure)
    assert says


def test_a_readers_own_figures_show_dollars_too_and_formulas_of_pages_are_still_drawn():
    with plots.look.plt.rc_context():
        plots.use_style()
        figure = plots.look.plt.figure()
        assert not figure.suptitle("$\\frac{$").get_parse_math()
        figure.canvas.draw()
        assert "svg" in draw_formula(r"\frac{a}{b}")


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_never_a_path(name, tmp_path):
    made = as_file_name(name)
    assert made and "/" not in made and "\\" not in made and ".." not in made and len(made) < 100 and made.isprintable()
    assert default_folder(str(tmp_path), name).parent == default_folder(str(tmp_path), None).parent
    (tmp_path / made).write_text("x")
    assert as_file_name("Mira Kestrel") == "mira-kestrel" and as_file_name("a/b") != as_file_name("a b") != as_file_name("a:b")


@pytest.mark.parametrize("names", [["Kofi Okoye", "Petra Quillon"], ["car", "tree"], ["$5", "<b>"]])
def test_two_classes_leave_one_to_retain_and_that_is_said(tmp_path, names):
    source = open_data(make_folder(tmp_path, names, shown=PEOPLE[:2]))
    retain = source.retain_set(names[0], 99)
    with pytest.raises(EmptySetError, match="retain pairs all show .* two different classes or captions beside the concept were expected"):
        distinct_batches(retain.labels, 128)
    assert source.exam(names[0], "report").groups().keys() == {"target", "neighbours", "classes"}


def test_a_class_without_training_pictures_is_passed_over_where_classes_are_compared_by_pictures(tmp_path):
    source = open_data(make_folder(tmp_path, PEOPLE[:3]))
    whole = source.pairs
    keep = (whole.table["concept"] != "Oskar Marlow") | (whole.table["split"] != "train")
    source = type(source)(tmp_path)
    source.pairs = joined([whole.where(keep)])
    assert set(class_pictures(source, source.exam("Kofi Okoye", "report"), 4, 0)) == {"Kofi Okoye", "Petra Quillon"}
