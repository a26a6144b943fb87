"""Known or guessed, and small or oddly named data, on the studio's CLIP."""

import base64
import dataclasses
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from picture_files import BROKEN
from studio_folders import PEOPLE, make_folder

from slugkit.base import EmptySetError, SearchFailedError, UnreadableImagesError, as_file_name
from slugkit.data import open_data
from slugkit.data.recipe import joined
from slugkit.evaluation.clip import Scorer, zero_shot_task
from slugkit.evaluation.leftover import class_pictures
from slugkit.evaluation.statistics import above_chance
from slugkit.method.losses import distinct_batches
from slugkit.method.search import Criterion
from slugkit.models import load_clip
from slugkit.studio.train.clip import default_folder
from slugkit.unlearning.concept import require_above_chance, require_known, search_layers
from slugkit.workbook import plots
from slugkit.workbook.run.pages import draw_formula


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


# -- known, or guessed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hits", "n", "classes", "known"),
    [
        (20, 138, 6, False),
        (40, 138, 6, True),
        (3, 6, 2, False),
        (6, 6, 2, True),
        (1, 1, 10, True),
        (1, 40, 40, False),
        (0, 9, 40, False),
        (0, 0, 2, False),
    ],
)
def test_known_is_above_chance_with_the_whole_interval(hits, n, classes, known):
    assert above_chance(hits, n, classes) == known
    if n and hits:
        if known:
            require_above_chance("x", hits, n, classes)
        else:
            with pytest.raises(
                SearchFailedError,
                match=(
                    f"right about {hits} of the {n} search pictures .* no more than chance among "
                    f"{classes} classes"
                ),
            ):
                require_above_chance("x", hits, n, classes)


def unseen(pairs, rows):
    """The pairs with noise in the place of these pictures: what a model says of them is chance."""
    images = pairs.images.copy()
    images[rows] = np.random.default_rng(0).integers(
        0, 255, (len(rows), *images.shape[1:]), np.uint8
    )
    return dataclasses.replace(pairs, images=images)


def test_a_search_begins_on_nothing_that_is_guessed(clip):
    source = open_data("studio")
    exam = source.exam("car", "search")
    with pytest.raises(SearchFailedError, match="'car'"):
        search_layers(
            clip,
            dataclasses.replace(exam, pairs=unseen(exam.pairs, exam.groups()["target"][1])),
            {},
            ["text_projection"],
            Criterion("fa5"),
        )
    with pytest.raises(EmptySetError, match="no layer"):
        search_layers(clip, exam, {}, [], Criterion("fa5"))


def test_several_concepts_must_all_be_known(clip):
    both = zero_shot_task(open_data("studio"), ["Kofi Okoye", "car"], "search", per_style=1)
    require_known(Scorer(clip, both))
    both.pairs = unseen(both.pairs, np.flatnonzero(both.shows("car")))
    with pytest.raises(SearchFailedError, match="'car'.*more was expected"):
        require_known(Scorer(clip, both))


def test_the_studios_own_concepts_are_known(clip):
    source = open_data("studio")
    for concept in ("Mira Kestrel", "Selin Drover", "car", "neon"):
        exam = source.exam(concept, "search")
        with pytest.raises(
            EmptySetError, match="no layer"
        ):  # the first thing after the model was found to know it
            search_layers(clip, exam, {}, [], Criterion())


# -- small, and oddly named ----------------------------------------------------------------------

ODD = [
    "$5 a_b$ x^",
    "$\\frac{$",
    "<script>alert(1)</script>",
    "a/../../b",
    "x" * 3000,
    "word " * 400,
    "line\nbreak",
    "\x1b[2J",
    "100 % \\& {}",
    "张伟",
    " ",
]


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_as_it_is_written(name, tmp_path):
    pictures = np.zeros((2, 16, 16, 3), np.uint8)
    grid, says = plots.picture_grid(
        pictures, [name, "b"], title=name, borders=[name, None], row_labels=[name]
    )
    matrix, _ = plots.cosine_matrix(np.eye(2), np.eye(2), [name, "b"], pictures)
    counts = pd.DataFrame(
        {"stage": ["before", "after", "after"], "answer": [name, name, "b"], "count": [3, 1, 2]}
    )
    bars, _ = plots.confusions(counts, name)
    for number, figure in enumerate((grid, matrix, bars)):
        figure.savefig(tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 0 and not any(
            text.get_parse_math() and "$" in text.get_text()
            for text in figure.findobj(plots.look.plt.Text)
        )
        plots.look.plt.close(figure)
    assert says


def undated(image):
    """The SVG of an <img> without the time at which it was drawn."""
    svg = base64.b64decode(image.split("base64,")[1].split('"')[0]).decode()
    return re.sub(r"<dc:date>.*?</dc:date>", "", svg)


def test_a_readers_own_figures_show_dollars_too_and_formulas_of_pages_are_still_drawn():
    with plots.look.plt.rc_context():
        plots.use_style()
        figure = plots.look.plt.figure()
        assert not figure.suptitle("$\\frac{$").get_parse_math()
        figure.canvas.draw()
    formula = undated(draw_formula(r"\frac{a}{b}"))
    with plots.look.plt.rc_context({"text.parse_math": False}):
        assert undated(draw_formula(r"\frac{a}{b}")) == formula


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_never_a_path(name, tmp_path):
    made = as_file_name(name)
    assert (
        made
        and "/" not in made
        and "\\" not in made
        and ".." not in made
        and len(made) < 100
        and made.isprintable()
    )
    assert default_folder(str(tmp_path), name).parent == default_folder(str(tmp_path), None).parent
    (tmp_path / made).write_text("x")
    assert as_file_name("Mira Kestrel") == "mira-kestrel" and as_file_name("a/b") != as_file_name(
        "a b"
    ) != as_file_name("a:b")


@pytest.mark.parametrize("names", [["Kofi Okoye", "Petra Quillon"], ["car", "tree"], ["$5", "<b>"]])
def test_two_classes_leave_one_to_retain_and_that_is_said(tmp_path, names):
    source = open_data(make_folder(tmp_path, names, shown=PEOPLE[:2]))
    retain = source.retain_set(names[0], 99)
    with pytest.raises(
        EmptySetError,
        match="retain set .* alone; at least two classes, or pairs with distinct captions",
    ):
        distinct_batches(retain.labels, 128)
    assert source.exam(names[0], "report").groups().keys() == {"target", "neighbours", "classes"}


def test_a_class_without_training_pictures_is_passed_over_where_classes_are_compared_by_pictures(
    tmp_path, capsys
):
    source = open_data(make_folder(tmp_path, PEOPLE[:3]))
    whole = source.pairs
    keep = (whole.table["concept"] != "Oskar Marlow") | (whole.table["split"] != "train")
    source = type(source)(tmp_path)
    source.pairs = joined([whole.where(keep)])
    assert set(class_pictures(source, source.exam("Kofi Okoye", "report"), 4, 0)) == {
        "Kofi Okoye",
        "Petra Quillon",
    }
    assert "1 class has no whole training picture" in capsys.readouterr().out


@pytest.mark.parametrize("broken", [["Oskar Marlow"], ["Petra Quillon", "Oskar Marlow"], []])
def test_a_class_of_broken_training_pictures_is_passed_over_and_named(tmp_path, broken, capsys):
    table = pd.read_csv(Path(make_folder(tmp_path, PEOPLE)) / "captions.csv")

    def damage(names):
        for file in table["file"][table["concept"].isin(names) & (table["split"] == "train")]:
            (tmp_path / file).write_bytes(BROKEN["half a JPEG"])

    damage(broken)
    source = open_data(str(tmp_path))
    found = class_pictures(source, source.exam("Kofi Okoye", "report"), 4, 0)
    assert set(found) == set(PEOPLE) - set(broken)
    said = capsys.readouterr().out
    assert all(repr(name) in said for name in broken) and bool(said) is bool(broken)
    damage(["Kofi Okoye"])
    source = open_data(str(tmp_path))
    with pytest.raises(UnreadableImagesError):
        class_pictures(source, source.exam("Kofi Okoye", "report"), 4, 0)
