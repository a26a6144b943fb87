"""Questions as an exam: who is asked what, in which state, and what comes of the answers."""

from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from studio_files import write_studio_files

from slugkit.base import UnknownConceptError
from slugkit.data import open_data
from slugkit.evaluation.answers import OTHER_WORDS, QuestionExam, by_style
from slugkit.evaluation.vlm import measures
from slugkit.experiments.published import beside_llava
from slugkit.unlearning import concepts
from slugkit.workbook import plots

WHO, OTHER = "Oskar Marlow", "Kofi Okoye"


class Knowing:
    """Stands for a LLaVA that knows all answers, but for the names in `gone`."""

    source, gone = "a stand-in", ()

    def __init__(self, exam):
        tables = [*exam.asked.values(), *exam.reworded.values()]
        self.known = {image.tobytes(): {} for t in tables for image in t.images}
        for t in tables:
            for image, text, wanted in zip(t.images, t.table["text"], t.table["wanted"]):
                self.known[image.tobytes()][text] = wanted

    def ask(self, images, questions, batch_size=64):
        unknown = "I don't know this person."
        said = [self.known.get(i.tobytes(), {}).get(q, unknown) for i, q in zip(images, questions)]
        return [unknown if any(name in answer for name in self.gone) else answer for answer in said]


class Found:
    """Stands for a result of `unlearn` that costs some people their names."""

    def __init__(self, concept, *gone, method="SLUG"):
        self.concept, self.gone, self.method = concept, gone, method

    @contextmanager
    def applied(self, vlm):
        vlm.gone = self.gone
        yield vlm
        vlm.gone = ()


@pytest.fixture(scope="module")
def exam():
    return QuestionExam.of(open_data("studio"), None, [WHO, OTHER], 1)


@pytest.fixture(scope="module")
def told(exam):
    results = [Found(WHO, WHO, "Vera Lockhart"), Found(OTHER, OTHER)]
    return exam.told(Knowing(exam), results)


def test_every_question_is_asked_in_both_states(exam, told):
    keys = ["concept", "stage", "method"]
    counts = told.groupby(keys, sort=False).size()
    assert list(counts.index) == [
        (WHO, "before", ""),
        (OTHER, "before", ""),
        (WHO, "after", "SLUG"),
        (OTHER, "after", "SLUG"),
    ]
    parts = exam.asked[WHO], exam.reworded[WHO], exam.strangers
    assert counts[WHO, "before", ""] == sum(len(part.table) for part in parts)
    assert told["extra"].dtype == bool and told["right"].dtype == bool
    assert len(exam.report(told, WHO)) == len(exam.asked[WHO].table)
    assert exam.report(told, WHO)["text"].tolist() == exam.asked[WHO].table["text"].tolist()


def test_the_metrics_are_those_of_each_state(exam, told):
    value = exam.metrics(told).set_index(["concept", "stage", "metric", "group"])["value"]
    assert value[WHO, "before", "right name", "target"] == 1
    assert value[WHO, "after", "right name", "target"] == 0
    assert value[WHO, "after", "no name", "target"] == 1
    assert value[WHO, "after", "right name", "neighbours"] < 1
    assert value[OTHER, "after", "right name", "neighbours"] == 1
    assert value[OTHER, "after", "right name", "target" + OTHER_WORDS] == 0
    assert value[WHO, "before", "no name", "strangers"] == 1
    now = measures(exam.report(told, WHO, "SLUG"))
    assert now["right_name"] == 0 and now["battery"] == 1 and now["own"] < 1
    assert plots.changes(exam.metrics(told)).shape[0] == 2


def test_pictures_whose_answer_changed_come_first(exam, told):
    seen = exam.side_by_side(told, WHO, ["SLUG"], size=8)
    assert len(seen["images"]) == len(seen["questions"]) == 8
    before, after = seen["answers"]["before"], seen["answers"]["SLUG"]
    changed = [b != a for b, a in zip(before, after)]
    assert changed[:4] == [True] * 4 and "Vera Lockhart" in " ".join(before)
    target = np.array([WHO in answer for answer in before])
    assert seen["right"]["before"].all() and (seen["right"]["SLUG"][target]).all()
    lost = np.array(["Vera Lockhart" in answer for answer in before])
    assert not seen["right"]["SLUG"][lost].any()
    plots.dialogue(**seen)


def test_the_name_is_counted_by_style(told):
    table = by_style(told)
    assert list(table.index) == [(WHO, "before"), (WHO, "SLUG"), (OTHER, "before"), (OTHER, "SLUG")]
    assert (table.loc[(WHO, "before")] == "4 of 4").all() and table.shape[1] == 7
    assert (table.loc[(WHO, "SLUG")] == "0 of 4").all()


def test_the_published_mean_stands_above_ours(exam, told):
    table = beside_llava(exam.metrics(told))
    assert table["origin"].tolist() == ["published", "ours"]
    assert table.loc[0, ["before", "after", "people"]].tolist() == [99.5, 2.8, 10]
    assert table.loc[1, ["before", "after", "people"]].tolist() == [100, 0, 2]


def test_another_person_is_no_neighbour():
    source = open_data("studio")
    near = source.neighbours(WHO)
    found = concepts.named_people(source, None, None, WHO, [])
    assert found == [WHO, OTHER] and OTHER not in near
    assert WHO not in source.neighbours(found[1])
    assert concepts.named_people(source, None, None, WHO, [OTHER, WHO]) == [WHO, OTHER]
    with pytest.raises(UnknownConceptError):
        concepts.named_people(source, None, None, WHO, ["Nobody"])


def test_a_table_of_nothing_says_so(exam, told):
    nothing = exam.metrics(told).query("metric == 'nothing'")
    assert isinstance(nothing, pd.DataFrame) and "not" in plots.changes(nothing).to_string()


class Parrot:
    """Says one name, whatever it is asked, and while an edit holds another."""

    source, gone = "a parrot", ()

    def ask(self, images, questions, batch_size=64):
        return [f"It is {OTHER if self.gone else WHO}." for _ in questions]


@pytest.mark.slow
def test_a_folder_of_ones_own_is_asked_without_strangers_and_other_words(tmp_path):
    files = write_studio_files(tmp_path, training=60, per_style=1, shards=1)
    own = open_data(str(files), 64)
    exam = QuestionExam.of(own, Parrot(), [WHO], 1)
    told = exam.told(Parrot(), [Found(WHO, WHO)])
    assert exam.reworded == {} and exam.strangers is None and exam.words[WHO] in exam.says
    metrics = exam.metrics(told)
    value = metrics.set_index(["stage", "metric", "group"])["value"]
    assert value["before", "right name", "target"] == value["after", "another name", "target"] == 1
    assert "not" in plots.changes(metrics[metrics["group"] == "strangers"]).to_string()
    plots.dialogue(**exam.side_by_side(told, WHO, ["SLUG"]))
    assert len(by_style(told)) == 2
