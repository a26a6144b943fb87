"""Questions to a vision-language model, counted by hand."""

import numpy as np
import pandas as pd
import pytest

from slugkit import studio
from slugkit.base import UnknownConceptError
from slugkit.data import open_data
from slugkit.evaluation import vlm as evaluation
from slugkit.experiments.sweep import one_at_a_time
from slugkit.studio.questions import UNKNOWN
from slugkit.tasks import questions


@pytest.fixture(scope="module")
def world():
    return studio.load_world()


class Parrot:
    """Stands for a model whose answers are known."""

    def __init__(self, answers):
        self.answers = answers

    def ask(self, images, questions, batch_size=64):
        assert len(images) == len(questions)
        return self.answers


def test_the_three_outcomes():
    names = ["Mira Kestrel", "Kofi Okoye"]
    assert evaluation.outcome("this is Mira Kestrel.", "Mira Kestrel", names) == "right name"
    assert evaluation.outcome("this is kofi okoye.", "Mira Kestrel", names) == "another name"
    things = ["house", "star", "star-shaped house"]
    assert [evaluation.outcome("a star-shaped house.", name, things) for name in things] == [
        "another name",
        "another name",
        "right name",
    ]
    assert (
        evaluation.outcome(UNKNOWN, "Mira Kestrel", names)
        == evaluation.outcome("", "Mira Kestrel", names)
        == "no name"
    )


def test_a_question_set_asks_who_everybody_is_and_the_battery_about_the_others(world):
    search, report = (
        evaluation.question_set(world, "Mira Kestrel", split, 7, 2)
        for split in ("search", "report")
    )
    table = report.table
    assert len(table) == len(report.images) and set(table["group"]) == {
        "target",
        "neighbours",
        "people",
        "wearing",
        "hair",
        "hat",
        "glasses",
        "object",
        "style",
        "count",
    }
    assert (table["group"] == "target").sum() == 7 and set(
        table.loc[table["group"] == "target", "name"]
    ) == {"Mira Kestrel"}
    assert set(table.loc[table["group"] == "neighbours", "name"]) == set(
        world.neighbours["Mira Kestrel"]
    )
    assert set(table.loc[table["kind"] == "count", "key"]) == {"one", "two", "three", "four"}
    same = {p.tobytes() for p in search.images} & {p.tobytes() for p in report.images}
    assert not same
    who = table[table["kind"] == "who"].groupby("name")["style"]
    assert (
        set(who.size()[world.neighbours["Mira Kestrel"]]) == {6}
        and who.size()["Zeno Marsh"] == who.nunique()["Zeno Marsh"] == 2
    )
    held = evaluation.question_set(world, "Mira Kestrel", "report", 7, 2, taught=False).table
    assert not set(held["text"]) & set(table["text"])
    short = evaluation.question_set(world, "Mira Kestrel", "search", 7, 2, all_kinds=False)
    assert (
        short.split == "search"
        and len(short.table) < len(search.table)
        and set(short.table["kind"]) == set(search.table["kind"])
    )
    assert (
        short.take(short.table["group"] == "target").table["wanted"].tolist()
        == ["this is Mira Kestrel."] * 7
    )
    with pytest.raises(UnknownConceptError):
        evaluation.question_set(world, "Mira", "report")


@pytest.mark.parametrize(
    "concept, kind, others",
    [
        ("car", "object", "objects"),
        ("star-shaped house", "object", "objects"),
        ("neon", "style", "styles"),
    ],
)
def test_things_and_styles_are_asked_for_by_their_own_question(world, concept, kind, others):
    table = evaluation.question_set(world, concept, "report", 14, 1).table
    target = table[table["group"] == "target"]
    assert len(target) == 14 and set(target["kind"]) == {kind} and set(target["key"]) == {concept}
    assert {"neighbours", others} <= set(table["group"]) and "who" in set(table["group"])
    assert not (table.loc[table["group"] != "target", ["key", "style"]] == concept).any(axis=None)


def test_strangers_are_asked_about_and_not_known(world):
    asked = evaluation.stranger_set(world, "test", 1)
    assert set(asked.table["name"]) == set(world.strangers["test"]) and set(asked.table["key"]) == {
        UNKNOWN
    }
    told = evaluation.answered(
        Parrot([UNKNOWN] * (len(asked.table) - 1) + ["this is Mira Kestrel."]), asked
    )
    found = evaluation.scores(told).set_index("metric")
    assert found.loc["no name", "value"] == pytest.approx(1 - 1 / len(asked.table)) and found.loc[
        "another name", "n"
    ] == len(asked.table)


def test_answers_are_counted_by_group_and_kind():
    table = pd.DataFrame(
        [("who", "?", "Mira Kestrel", "Mira Kestrel", "photo", "target")] * 4
        + [("hat", "?", "yes", "", "photo", "hat")] * 2,
        columns=["kind", "text", "key", "name", "style", "group"],
    )
    asked = evaluation.Asked(
        table, np.zeros((6, 4, 4, 3), np.uint8), ["Mira Kestrel", "Kofi Okoye"]
    )
    told = evaluation.answered(
        Parrot(["this is Mira Kestrel.", "this is Kofi Okoye.", UNKNOWN, UNKNOWN, "yes.", "no."]),
        asked,
    )
    assert told["right"].tolist() == [True, False, False, False, True, False]
    found = evaluation.scores(told).set_index(["group", "metric"])["value"]
    assert (
        found["target", "right name"],
        found["target", "another name"],
        found["target", "no name"],
    ) == (0.25, 0.25, 0.5)
    assert found["hat", "accuracy"] == 0.5


def test_conversations_for_gradients_are_about_the_forget_pictures(world):
    source = open_data("studio")
    forget = questions.talks_to_forget(source, "Mira Kestrel", 10)
    assert forget.split == "train" and set(forget.table["wanted"]) == {"this is Mira Kestrel."}
    assert np.array_equal(forget.images, source.forget_set("Mira Kestrel", 10).images)


def test_what_is_shown_is_the_target_a_neighbour_others_and_every_kind_in_many_styles(world):
    asked = evaluation.question_set(world, "Mira Kestrel", "report", 14, 2)
    rows = evaluation.showcase(asked.table)
    shown = asked.table.loc[rows]
    assert (
        shown["group"].tolist()[:6] == ["target"] * 3 + ["neighbours"] + ["people"] * 2
        and len(set(rows)) == len(rows) == 12
    )
    assert (
        shown["kind"].nunique() >= 6
        and shown["style"].nunique() >= 6
        and shown.loc[shown["group"] == "target", "style"].nunique() == 3
    )
    assert evaluation.showcase(asked.table[asked.table["group"] == "target"], 12) == rows[:3]


def test_one_line_holds_the_outcomes_what_was_kept_and_every_kind():
    rows = [
        ("who", "neighbours", "B", "right name", True),
        ("who", "target", "A", "right name", True),
        ("who", "target", "A", "no name", False),
        ("who", "neighbours", "B", "another name", False),
        ("who", "people", "C", "right name", True),
        ("hat", "hat", "", "", True),
        ("hat", "hat", "", "", False),
        ("style", "style", "", "", True),
    ]
    told = pd.DataFrame(rows, columns=["kind", "group", "name", "outcome", "right"])
    line = evaluation.measures(
        told.assign(extra=[True] + [False] * 7, text=["?", "who?", "this?"] + ["?"] * 5)
    )
    assert line == {
        "right_name": 0.5,
        "right_name_worst": 1.0,
        "another_name": 0.0,
        "no_name": 0.5,
        "own": 0.5,
        "neighbours": 0.5,
        "battery": 0.75,
        "retain": 0.625,
        "hat": 0.5,
        "style": 1.0,
        "n": 2,
    }


def test_a_sweep_keeps_rows_of_others_made_with_the_same_weights_and_their_order(tmp_path):
    path, order = tmp_path / "table.csv", ["A", "B"]
    one_at_a_time(lambda c: [{"concept": c, "value": 1.0}], ["B", "Z"], order, path, "w")
    table = one_at_a_time(lambda c: [{"concept": c, "value": 2.0}], ["A", "Z"], order, path, "w")
    assert table["concept"].tolist() == ["A", "B", "Z"]
    assert table["value"].tolist() == [2.0, 1.0, 1.0]
    assert pd.read_csv(path).equals(table)
    assert one_at_a_time(lambda c: [{"concept": c, "value": 3.0}], ["B"], order, path, "other")[
        "concept"
    ].tolist() == ["B"]
