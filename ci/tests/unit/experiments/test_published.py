"""The papers' figures: all with a source, none that was not verified, and never mistaken
for ours.
"""

import re

import numpy as np
import pandas as pd
import pytest

from slugkit.base import SettingError, ShapeError
from slugkit.experiments.published import (
    METRICS,
    beside,
    by_names,
    mean_over_names,
    names,
    paper_rows,
    published,
)


@pytest.fixture
def found():
    """Metric rows as an exam gives them, of two stages."""
    rows = [
        ("before", "target", "FA@1", 0.7, 10),
        ("after", "target", "FA@1", 0.0, 10),
        ("after", "target", "FA@5", 0.1, 10),
        ("after", "neighbours", "accuracy", 0.5, 8),
        ("after", "people", "accuracy", 0.6, 100),
        ("after", "objects", "accuracy", 0.59, 1667),
        ("oracle", "people", "accuracy", 0.62, 100),
    ]
    table = pd.DataFrame(rows, columns=["stage", "group", "metric", "value", "n"])
    return table.assign(method="SLUG", low=table["value"] * 0.9, high=table["value"] * 1.1)


@pytest.mark.parametrize("name", names())
def test_every_published_figure_says_where_it_was_taken_from(name):
    table = published(name)
    assert len(table) and table["source"].str.len().gt(30).all()
    assert table["source"].str.contains(r"SLUG|UnlearnCanvas|RAZOR").all()
    assert not table["source"].str.contains(r"\[\w+\]").any(), "a source is written out, not tagged"


def test_the_tables_are_there():
    assert {
        "table1_clip",
        "unlearncanvas_table2",
        "figure2_curves",
        "figure2_front",
        "llava_mean",
        "runtime",
    } <= set(names())


def test_what_was_not_verified_is_empty():
    table = published("table1_clip").set_index("method")
    assert np.isnan(table.loc["SLUG", ["fa5", "ta_in5", "ta_ca5"]].to_numpy(float)).all()
    assert np.isnan(published("unlearncanvas_table2").set_index("method").loc["SLUG", "fid"])


def test_table_1_holds_the_known_rows():
    table = published("table1_clip").set_index("method")
    assert table.loc["SLUG", ["fa1", "ta_in1", "ta_ca1"]].tolist() == [0.0, 59.96, 58.32]
    assert list(table.index) == ["original", "FT", "GA", "GAFT", "SalUn", "SSD", "SLUG"]
    assert (
        table.drop(index="SLUG")[["fa1", "fa5", "ta_in1", "ta_in5", "ta_ca1", "ta_ca5"]]
        .notna()
        .all(axis=None)
    )


def test_curves_are_tidy_and_forget_accuracies_are_eighteenths():
    curves = published("figure2_curves")
    assert not curves.duplicated(["method", "step", "metric"]).any()
    forget = curves[curves["metric"].str.startswith("FA")]
    assert (abs(forget["value"] * 18 / 100 - (forget["value"] * 18 / 100).round()) < 0.02).all()
    assert (
        len(curves[curves["method"] == "SLUG"]) == 11 * 4 - 3
        and len(curves[curves["method"] == "GAFT"]) == 9 * 4 - 1
    )


def test_the_front_is_a_front():
    front = published("figure2_front").sort_values("alignment")
    assert front["importance"].is_monotonic_increasing and len(front) == 6


def test_exam_groups_get_the_papers_names_in_percent(found):
    rows = paper_rows(found)
    assert sorted(set(rows["metric"])) == ["FA@1", "FA@5", "TA_CA@1", "TA_IN@1"] and len(rows) == 6
    after = rows[rows["method"] == "SLUG"].set_index("metric")
    assert after.loc["TA_IN@1", ["value", "n"]].tolist() == [59.0, 1667] and after.loc[
        "TA_CA@1", "low"
    ] == pytest.approx(54.0)
    assert set(rows["method"]) == {"original", "SLUG", "never saw it"}


def test_ours_stands_beside_the_published_and_each_is_marked(found):
    both = beside(paper_rows(found), "table1_clip", ["FA@1", "TA_CA@1"])
    assert set(both["origin"]) == {"published", "ours"} and set(both["metric"]) == {
        "FA@1",
        "TA_CA@1",
    }
    slug = both[both["method"] == "SLUG"].set_index(["origin", "metric"])["value"]
    assert slug["published", "TA_CA@1"] == 58.32 and slug["ours", "TA_CA@1"] == pytest.approx(60.0)
    assert both.loc[both["origin"] == "published", ["low", "high", "n"]].isna().all(axis=None)
    assert (
        both.loc[both["origin"] == "ours", "source"].eq("this run").all()
        and both.loc[both["origin"] == "published", "source"].str.contains("Table 1").all()
    )


def test_an_empty_published_cell_makes_no_row(found):
    both = beside(paper_rows(found), "table1_clip")
    assert both[(both["method"] == "SLUG") & (both["metric"] == "FA@5")]["origin"].tolist() == [
        "ours"
    ]


def test_the_mean_over_names_weighs_people_and_not_pictures():
    told = pd.DataFrame({"true": ["A"] * 8 + ["B"] * 2, "answer": ["A"] * 8 + ["A", "B"]})
    assert mean_over_names(told)["value"] == pytest.approx(75.0) and mean_over_names(told)["n"] == 2
    assert mean_over_names(told, ["B", "C"]) == {
        "value": 50.0,
        "low": pytest.approx(np.nan, nan_ok=True),
        "high": pytest.approx(np.nan, nan_ok=True),
        "n": 1,
    }


def test_the_papers_own_mean_takes_the_place_of_the_mean_over_pictures_and_no_other(found):
    rows, truth = paper_rows(found), ["A"] * 3 + ["B"] + ["Target"] * 2 + ["Ed"]
    told = {
        method: pd.DataFrame({"true": truth, "answer": truth[:wrong] + ["?"] * (7 - wrong)})
        for method, wrong in (("SLUG", 4), ("never saw it", 3))
    }
    named = by_names(rows, told, ["A", "B", "Target"])
    assert named[named["metric"] == "TA_CA@1"].set_index("method")[["value", "n"]].round(
        2
    ).T.to_dict("list") == {"SLUG": [66.67, 3], "never saw it": [33.33, 3]}
    kept = rows[rows["metric"] != "TA_CA@1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(named[named["metric"] != "TA_CA@1"], kept)
    with pytest.raises(ShapeError, match="one table for each"):
        by_names(rows, {"SLUG": told["SLUG"]})


def test_wrong_names_say_what_there_is(found):
    with pytest.raises(SettingError, match="table1_clip"):
        published("table1_clipp")
    with pytest.raises(SettingError, match="TA_IN@1"):
        beside(paper_rows(found), "table1_clip", ["TA_IN1"])
    with pytest.raises(SettingError, match="no column for a metric"):
        beside(paper_rows(found), "runtime")
    with pytest.raises(ShapeError, match="paper_rows"):
        beside(found.drop(columns="method"), "table1_clip")


def test_every_metric_column_is_named():
    columns = {
        c
        for n in ("table1_clip", "unlearncanvas_table2", "unlearncanvas_rerun", "razor_sd3")
        for c in published(n).columns
    }
    measured = {c for c in columns if re.fullmatch(r"(fa|ta_\w+?)\d|(style|object)_\w+|fid", c)}
    assert measured == set(METRICS)
