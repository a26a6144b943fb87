"""Answers under stress: questions that hold the name, and a choice by likelihood."""

import numpy as np
import pandas as pd
import pytest
import torch

from slugkit.experiments.stress import answers
from slugkit.experiments.stress.summary import over_people, way_back, wide
from slugkit.models.vlm import load_vlm
from slugkit.tasks.questions import question_set
from slugkit.unlearning.vlm import log_odds, told_rows

WHO, OTHER = "Oskar Marlow", "Petra Quillon"


@pytest.fixture(scope="module")
def vlm():
    return load_vlm("studio", "cpu")


@pytest.fixture(scope="module")
def asked(source):
    whole = question_set(source.world, WHO, "report", 4, 1)
    return whole.take((whole.table["group"] == "target").to_numpy())


def test_a_likelihood_is_that_of_the_whole_answer(vlm, asked):
    two = asked.take(np.arange(2))
    found = answers.likelihoods(vlm, two, [OTHER, WHO])
    assert found.shape == (2, 2) and (found < 0).all() and (found[:, 1] > found[:, 0]).all()
    with torch.no_grad():
        odds = log_odds(vlm, told_rows(vlm, two, np.arange(2))).numpy()
    assert two.table["wanted"].tolist() == [f"this is {WHO}."] * 2
    assert np.allclose(1 / (1 + np.exp(-odds)), np.exp(found[:, 1]), atol=1e-4)


def test_the_rank_is_among_all_names_and_strangers_are_asked_the_same(vlm, asked, monkeypatch):
    names = [OTHER, WHO, "Kofi Okoye"]
    mine = answers.choice(vlm, asked, asked, WHO, names)
    assert mine["FA@1"] == mine["strangers taken for it"] > 70 and mine["n"] == 4
    wrong = answers.choice(vlm, asked, asked, OTHER, names)  # the name of somebody else
    assert wrong["FA@1"] < 30
    unknown = answers.likelihoods(vlm, asked, names) * np.nan
    monkeypatch.setattr(answers, "likelihoods", lambda *_: unknown)
    assert answers.choice(vlm, asked, asked, WHO, names)["FA@1"] == 0  # no number is no name


def test_a_leading_question_holds_the_name_and_leaves_the_questions_as_they_were(vlm, asked):
    before = asked.table["text"].tolist()
    led = answers.leading(asked, answers.LEADS[0].format(WHO))
    assert led.table["text"].tolist() == [f"this is {WHO}. {text}" for text in before]
    assert asked.table["text"].tolist() == before


def test_a_name_counts_where_it_is_given_right_or_wrong(vlm, asked, monkeypatch):
    said = iter([["this is Oskar Marlow.", "this is Petra Quillon.", "no.", "oskar marlow"]] * 2)
    monkeypatch.setattr(answers, "answered", lambda vlm, some: pd.DataFrame({"answer": next(said)}))
    found = answers.named(vlm, asked, asked, WHO)
    assert found == {"named": 50.0, "strangers taken for it": 50.0, "n": 4}


def test_rows_are_summed_up_over_people_without_an_oracle():
    rows = [
        {"stress": "answers", "steps": 0, "setting": s, "concept": c, "tower": t, "name": n}
        | {"named": value + k, "strangers taken for it": 0.0}
        for k, c in enumerate("abcde")
        for t, n, value in (("", "unedited", 90.0), ("vision", "SLUG", 5.0))
        for s in ("as asked", "leading")
    ]
    table = pd.DataFrame(rows)
    summary = over_people(table)
    shown = wide(summary, "answers", ["named", "strangers taken for it"])
    assert shown.loc[("vision", "SLUG", 5), ("as asked", "named")].startswith("7.0 [")
    assert way_back(table).empty


def test_every_setting_has_its_control_in_the_same_model(vlm, source, monkeypatch):
    monkeypatch.setattr(answers, "SIZE", 4)
    monkeypatch.setattr(answers, "CHOSEN", 2)
    controls, choice = [], answers.choice

    def noting(vlm, mine, strangers, *rest):
        controls.extend(strangers.table["name"])
        return choice(vlm, mine, strangers, *rest)

    monkeypatch.setattr(answers, "choice", noting)
    rows = pd.DataFrame(answers.stressed_answers(vlm, source, WHO)).set_index("setting")
    assert controls and set(controls) <= set(source.world.strangers["test"])
    leads = [lead.format("NAME").strip() for lead in answers.LEADS]
    assert list(rows.index) == ["as asked", "words never taught", *leads, "choice by likelihood"]
    assert rows["strangers taken for it"].notna().all() and set(rows["n"]) == {4, 2}
    assert rows["named"].notna().sum() == 5 and rows.loc["as asked", "named"] > 50
    assert rows.loc["choice by likelihood", "FA@1"] == 100
