"""UA, IRA and CRA by hand, and the prompts they rest on."""

import pandas as pd
import pytest

from slugkit import studio
from slugkit.base import SettingError, UnknownConceptError
from slugkit.evaluate.diffusion import PipelineMeasure, measures, ua_ira_cra
from slugkit.evaluate.diffusion_sweep import averages, concepts_drawn
from slugkit.evaluate.prompts import NEAR_TIMES, answer_set, drawn_counterparts, several_answer_set, showcase, subject_domains


@pytest.fixture(scope="module")
def world():
    return studio.load_world()


@pytest.mark.parametrize("concept", ["Mira Kestrel", "car", "neon", "star-shaped house", "Tin Wobble"])
def test_search_and_report_share_no_prompt_and_no_seed(world, concept):
    search, report = (answer_set(world, concept, split) for split in ("search", "report"))
    assert not set(search["prompt"]) & set(report["prompt"]) and not set(search["seed"]) & set(report["seed"])
    for table in (search, report):
        assert table["seed"].is_unique and (table["group"] == "target").sum() == 28
        column = "style" if concept in world.styles else "subject"
        assert ((table[column] == concept) == (table["group"] == "target")).all()
        assert all(row.subject in row.prompt for row in table.itertuples())


def test_every_other_figure_and_object_is_drawn_and_neighbours_are_marked(world):
    table = answer_set(world, "Mira Kestrel", "report", size=1)
    rest = table[table["group"] != "target"]
    assert set(rest["subject"]) == {s for s, d in subject_domains(world).items() if d in ("figures", "objects")} - {"Mira Kestrel"}
    assert set(rest.loc[rest["group"] == "neighbours", "subject"]) == set(world.neighbours["Mira Kestrel"])
    assert set(rest["style"]) == set(world.styles)
    assert set(rest["subject"].value_counts()[world.neighbours["Mira Kestrel"]]) == {NEAR_TIMES}
    assert set(rest.loc[~rest["extra"], "subject"].value_counts()) == {1} and set(rest.loc[rest["extra"], "group"]) == {"neighbours"}
    styles = answer_set(world, "neon", "report", size=1)
    assert set(styles.loc[styles["group"] == "neighbours", "style"]) == set(world.neighbours["neon"])
    assert set(answer_set(world, "star-shaped house", "report", size=1)["domain"]) == {"figures", "objects", "novel"}


def test_several_answer_sets_are_one_with_every_target_and_the_rest_once(world):
    three = ["Mira Kestrel", "Selin Drover", "Kofi Okoye"]
    table = several_answer_set(world, three, "report", 14, 1)
    targets, rest = table[table["group"] == "target"], table[table["group"] != "target"]
    assert targets["subject"].value_counts().to_dict() == dict.fromkeys(three, 14) and not set(rest["subject"]) & set(three)
    assert set(rest.loc[~rest["extra"], "subject"].value_counts()) == {1}
    near = {n for c in three for n in world.neighbours_of(c)} - set(three)
    assert set(rest.loc[rest["group"] == "neighbours", "subject"]) == near and set(rest.loc[rest["extra"], "subject"]) == near
    assert set(rest.loc[rest["subject"].isin(near), "subject"].value_counts()) == {NEAR_TIMES}
    one = several_answer_set(world, three[:1], "report", 14, 1)
    assert one.equals(answer_set(world, three[0], "report", 14, 1))
    styles = several_answer_set(world, ["neon", "mosaic"], "search", 14, 1)
    assert set(styles.loc[styles["group"] == "target", "style"]) == {"neon", "mosaic"} and not set(styles.loc[styles["group"] != "target", "style"]) & {"neon", "mosaic"}
    with pytest.raises(SettingError, match="one domain was expected"):
        several_answer_set(world, ["car", "Mira Kestrel"], "search")


def test_of_several_targets_the_one_that_is_recognised_most_counts(world, monkeypatch):
    table = several_answer_set(world, ["Mira Kestrel", "Kofi Okoye"], "search", 4, 1)
    judged = table[table["group"] == "target"].assign(right_subject=[True, False, False, False, True, True, True, False])
    measure = PipelineMeasure(None, None, table, "figures", lambda: None)
    monkeypatch.setattr(measure, "_told", lambda target: judged)
    assert measure.forget() == {"fa1": 0.75, "fa5": 0.75}


def test_unknown_names_and_splits_are_refused(world):
    with pytest.raises(UnknownConceptError, match="no concept"):
        answer_set(world, "Nobody Atall", "report")
    with pytest.raises(SettingError, match="one of search, report"):
        answer_set(world, "car", "train")


def test_the_three_measures_by_hand():
    rows = [("target", "figures", 0, 1)] * 3 + [("target", "figures", 1, 0)] + [("neighbours", "figures", 0, 1)] \
        + [("rest", "figures", 1, 1)] * 3 + [("rest", "objects", 1, 0)] * 2 + [("rest", "objects", 0, 1)] * 2
    told = pd.DataFrame(rows, columns=["group", "domain", "right_subject", "right_style"]).astype({"right_subject": bool, "right_style": bool})
    told["extra"] = False
    more = pd.DataFrame([("neighbours", "figures", True, False, True)] * 3, columns=told.columns)  # count for the neighbours alone
    told = pd.concat([told, more], ignore_index=True)
    found = ua_ira_cra(told, "figures").set_index(["metric", "group"])["value"]
    assert found["UA", "target"] == pytest.approx(3 / 4)
    assert found["IRA", "people"] == pytest.approx(3 / 4) and found["IRA", "neighbours"] == 3 / 4
    assert found["CRA", "objects"] == pytest.approx(2 / 4) and found["CRA", "styles"] == pytest.approx(6 / 8)
    assert found["CRA", "all"] == pytest.approx((0.5 + 0.75) / 2)
    style = ua_ira_cra(told, "styles").set_index(["metric", "group"])["value"]
    assert style["UA", "target"] == pytest.approx(1 / 4) and style["IRA", "styles"] == pytest.approx(6 / 8)
    assert style["CRA", "people"] == pytest.approx(3 / 4) and ("CRA", "styles") not in style.index
    flat = measures(told, "figures")
    assert (flat["ua"], flat["ira"], flat["near"]) == pytest.approx((3 / 4, 3 / 4, 3 / 4)) and flat["cra_n"] == 4 + 8 and flat["ua_n"] == 4


@pytest.mark.parametrize("concept", ["Mira Kestrel", "car", "neon", "star-shaped house", "Tin Wobble"])
def test_the_showcase_has_target_neighbour_and_others_and_seeds_of_its_own(world, concept):
    shown, used = showcase(world, concept), pd.concat([answer_set(world, concept, split) for split in ("search", "report")])
    assert len(shown) == 8 and {"target", "neighbour", "other"} < set(shown["what"])
    assert not set(shown["seed"]) & set(used["seed"])
    named = shown["prompt"].str.contains(concept)
    assert named[shown["what"].isin(["target", "combination"])].all() and not named[shown["what"].isin(["neighbour", "other", "part"])].any()


def test_drawn_counterparts_show_what_the_prompt_names(world):
    table = pd.DataFrame({"subject": ["car", "star-shaped house", "car"], "style": ["neon"] * 3})
    made = drawn_counterparts(world, table)
    assert made.shape == (3, 64, 64, 3)
    wanted = [studio.draw(studio.solo_records("report", s, 2, ["neon"])[k]) for s, k in (("car", 0), ("star-shaped house", 0), ("car", 1))]
    assert all((a == b).all() for a, b in zip(made, wanted))


def test_the_concepts_of_the_table_are_fixed_and_its_averages_are_changes_in_points(world):
    names = concepts_drawn(world)
    assert [world.kind(n) for n in names] == ["person"] * 5 + ["character"] * 2 + ["object"] * 2 + ["novel"] + ["style"] * 2
    table = pd.DataFrame([("a", "none", 0.0, 0.9, 0.8), ("a", "ua", 1.0, 0.8, 0.8), ("b", "none", 0.1, 1.0, 0.9), ("b", "ua", 0.9, 1.0, 0.7)],
                         columns=["concept", "criterion", "ua", "ira", "cra"])
    row = averages(table).iloc[0]
    assert (row["ua"], row["ira_change"], row["cra_change"], row["lowest_ua"], row["of"]) == pytest.approx((95, -5, -10, 90, "b"))
