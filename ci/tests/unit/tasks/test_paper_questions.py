"""Questions about pictures that are not the studio's own: its files in the formats of the published
data sets, read back through a recipe.
"""

import numpy as np
import pandas as pd
import pytest
from studio_files import write_studio_files

from slugkit.base import EmptySetError, SearchFailedError, SettingError
from slugkit.data import Pairs, PairsSource, open_data
from slugkit.data.pictures import Pictures
from slugkit.evaluation import vlm as evaluation
from slugkit.evaluation import vlm as vlm_words
from slugkit.evaluation.vlm import measures, outcome
from slugkit.tasks import questions as paper
from slugkit.tasks.questions import Asked, words_for

pytestmark = pytest.mark.slow

WHO = "Mira Kestrel"


@pytest.fixture(scope="module")
def world_files(tmp_path_factory):
    """A recipe: 300 captioned pairs in a shard, CelebA and ImageNet folders with seven pictures of
    everybody and everything.
    """
    return open_data(
        str(
            write_studio_files(
                tmp_path_factory.mktemp("files"), training=300, per_style=1, shards=1
            )
        ),
        64,
    )


class Parrot:
    """Stands for a model whose answers are known: a list, or a function of the question."""

    source = "a parrot"

    def __init__(self, answers):
        self.answers = answers

    def ask(self, images, questions, batch_size=64):
        assert len(images) == len(questions)
        return [self.answers(q) for q in questions] if callable(self.answers) else self.answers


def places(images):
    assert isinstance(images, Pictures), "pictures stay on disk"
    return set(images.places[["file", "offset"]].itertuples(index=False, name=None))


def test_search_and_report_share_no_picture_and_no_wording(world_files):
    for words in paper.WORDS:
        search, report = (
            paper.questions_about(world_files, WHO, split, words, 84, 4)
            for split in ("search", "report")
        )
        assert not places(search.images) & places(report.images) and not set(
            search.table["text"]
        ) & set(report.table["text"])
        assert (search.split, report.split) == ("search", "report") and len(report.table) == len(
            report.images
        )
    whose = paper.questions_about(world_files, WHO, "report").table
    assert "What is the name of the person in this image?" in set(whose["text"])


def test_the_name_is_asked_of_people_and_what_there_is_of_things(world_files):
    asked = paper.questions_about(world_files, WHO, "report", "paper", 3, 1)
    table, near = asked.table, world_files.neighbours(WHO)
    studio = evaluation.question_set(open_data("studio").world, WHO, "report", 7, 1).table
    assert set(studio.columns) == set(table.columns) and not asked.verbatim
    assert set(table["group"]) == {"target", "neighbours", "people", "object"}
    assert (table["group"] == "target").sum() == 3 and set(
        table.loc[table["group"] == "target", "name"]
    ) == {WHO}
    counts = table[table["group"] == "neighbours"].groupby("name")["extra"].agg(["size", "sum"])
    assert (
        set(counts.index) == set(near) and set(counts["size"]) == {3} and set(counts["sum"]) == {2}
    ), "three times as many, the extra ones marked"
    assert set(table.loc[table["group"] == "people", "name"].value_counts()) == {
        1
    } and WHO not in set(table.loc[table["group"] == "people", "name"])
    things = table[table["group"] == "object"]
    assert (
        (things["name"] == "").all()
        and set(things["key"]) == set(open_data("studio").world.objects)
        and set(asked.names) == set(world_files.people.classes)
    )
    car = paper.questions_about(world_files, "car", "report", "paper", 5, 1).table
    assert (
        set(car["group"]) == {"target", "objects", "who"}
        and (car.loc[car["group"] == "who", "name"] == "").all()
    )
    assert set(car.loc[car["group"] == "target", "kind"]) == {"object"}


def test_the_battery_of_a_search_is_thinned_out(world_files, monkeypatch):
    monkeypatch.setattr(paper, "BATTERY", 10)
    whole, thin = (
        paper.questions_about(world_files, WHO, "search", all_kinds=kinds).table
        for kinds in (True, False)
    )
    assert (whole["group"] == "object").sum() > 10 == (
        thin["group"] == "object"
    ).sum() and thin.loc[thin["group"] == "object", "key"].nunique() == 10
    assert (whole["group"] != "object").sum() == (thin["group"] != "object").sum()


def test_the_studio_is_asked_its_own_questions():
    source = open_data("studio")
    mine, own = (
        paper.questions_about(source, WHO, "search", "paper", 7, 1, all_kinds=False),
        evaluation.question_set(source.world, WHO, "search", 7, 1, all_kinds=False),
    )
    assert (
        mine.verbatim
        and mine.table.equals(own.table)
        and np.array_equal(mine.images, own.images)
        and mine.names == own.names
    )
    told = paper.talks_to_forget(source, WHO, 10)
    assert told.verbatim and set(told.table["wanted"]) == {f"this is {WHO}."}
    assert vlm_words.choose_words(Parrot([]), source, WHO)[0] == "studio"


def test_gradients_take_training_pictures_alone(world_files):
    forget = paper.talks_to_forget(world_files, WHO, 40)
    for split in ("search", "report"):
        assert not places(forget.images) & places(world_files.exam(WHO, split).pairs.images)
    assert places(forget.images) == places(world_files.forget_set(WHO, 40).images)
    assert set(forget.table["wanted"]) == {WHO} and set(forget.table["kind"]) == {"who"}


def test_a_thing_is_named_by_any_of_its_synonyms_and_a_person_by_the_whole_name():
    assert words_for("tench, Tinca tinca", "object") == ["tench", "tinca tinca"] and words_for(
        "sunglasses (n04356056)", "object"
    ) == ["sunglasses"]
    assert words_for("Sammy Davis, Jr.", "who") == ["sammy davis, jr."]
    things = ["tench, Tinca tinca", "goldfish, Carassius auratus"]
    assert [
        outcome(said, things[0], things, "object")
        for said in ("A Tinca Tinca.", "a goldfish", "a fish")
    ] == ["right name", "another name", "no name"]
    names = ["Elon Musk", "Mark Zuckerberg"]
    assert outcome("Elon Musk and Mark Zuckerberg", "Elon Musk", names) == "right name", (
        "the published rule: the name is contained"
    )
    table = pd.DataFrame(
        [("object", "?", "", things[0], "", "", "object")] * 2,
        columns=["kind", "text", "wanted", "key", "name", "style", "group"],
    )
    told = evaluation.answered(
        Parrot(["it is a tinca tinca", "a fish"]),
        Asked(table, np.zeros((2, 4, 4, 3), np.uint8), []),
    )
    assert told["right"].tolist() == [True, False]


def test_answers_in_its_own_words_are_what_the_model_says_where_it_is_right(world_files):
    asked = paper.questions_about(world_files, WHO, "search", "paper", 84, 4).take(np.arange(3))
    asked.table[["kind", "key", "name", "wanted"]] = [
        ("who", WHO, WHO, "?"),
        ("who", "Kofi Okoye", "Kofi Okoye", "?"),
        ("object", "car", "", "?"),
    ]
    mine = vlm_words.own_words(
        Parrot([f"The person is {WHO.upper()}!", "I cannot say.", "a thing"]), asked
    )
    assert mine.table["wanted"].tolist() == [
        f"The person is {WHO.upper()}!",
        "The person is Kofi Okoye!",
        "?",
    ]
    assert asked.table["wanted"].tolist()[0] == "?", (
        "the questions that were handed in are as they were"
    )


def test_the_wordings_are_those_under_which_most_are_named(world_files):
    def knows(question):
        return (
            f"this is {WHO}."
            if question in paper.WORDS["studio"].search["who"]
            else "I don't know this person."
        )

    words, says = vlm_words.choose_words(Parrot(knows), world_files, WHO)
    assert words == "studio" and "0.0 % (paper)" in says
    assert (
        vlm_words.choose_words(Parrot(lambda question: f"{WHO}"), world_files, WHO)[0] == "paper"
    ), "ties go to the paper's"
    once = paper.WORDS["paper"].search["who"][0]
    assert (
        vlm_words.choose_words(
            Parrot(lambda question: WHO if question == once else knows(question)), world_files, WHO
        )[0]
        == "studio"
    ), "both name the target, one more often"
    with pytest.raises(SearchFailedError, match="none of its .* nothing to forget"):
        vlm_words.choose_words(Parrot(lambda question: "Kofi Okoye"), world_files, WHO)


def test_what_was_not_asked_is_left_out_of_the_mean(world_files):
    asked = paper.questions_about(world_files, WHO, "report", "paper", 4, 1)
    people = asked.take((asked.table["name"] != "").to_numpy())
    line = measures(evaluation.judged(people, people.table["name"].tolist()))
    assert line["right_name"] == line["own"] == line["retain"] == 1.0 and np.isnan(line["battery"])


def test_data_that_cannot_be_asked_about_are_refused(world_files):
    table = pd.DataFrame(
        {
            "key": ["a", "b"],
            "caption": [f"{WHO} at sea", "a tree"],
            "concept": "",
            "domain": "",
            "style": "",
            "split": "train",
        }
    )
    captions = PairsSource(
        Pairs(np.zeros((2, 4, 4, 3), np.uint8), table), "captions", "captions.csv"
    )
    with pytest.raises(EmptySetError, match="captions only"):
        paper.questions_about(captions, WHO, "search")
    with pytest.raises(SettingError, match="wordings"):
        paper.questions_about(world_files, WHO, "search", "papr")
    with pytest.raises(SettingError, match="split"):
        paper.questions_about(world_files, WHO, "train")
