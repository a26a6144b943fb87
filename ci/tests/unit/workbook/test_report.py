"""The page of a run when several methods share one measurement of the unedited model."""

import tomllib

import pandas as pd
from repository import REPOSITORY

from slugkit.workbook.run import report
from slugkit.workbook.run.pages import TEMPLATES
from slugkit.workbook.run.report import finding, per_method


def test_the_pages_templates_are_part_of_the_package():
    tools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    package = tools["setuptools"]["package-data"]["slugkit.workbook.run"]
    there = {path for pattern in package for path in TEMPLATES.parent.glob(pattern)}
    assert there == set(TEMPLATES.iterdir()) and len(there) == 3


def rows(*entries):
    """Metric rows from (method, stage, value)."""
    base = {
        "family": "clip",
        "model": "studio",
        "concept": "Mira Kestrel",
        "group": "target",
        "metric": "FA@1",
        "split": "report",
    }
    return pd.DataFrame(
        [
            {**base, "method": m, "stage": s, "value": v, "low": v, "high": v, "n": 10}
            for m, s, v in entries
        ]
    )


def results_table(frame):
    """The page's tables of these metrics."""
    return report._render("results.html.j2", tables=report._tables(frame))


def test_methods_share_the_rows_before_the_edit():
    frame = rows(
        ("SLUG", "before", 0.7), ("SLUG text", "after", 0.0), ("SLUG vision", "after", 0.1)
    )
    whole = per_method(frame)
    assert {tuple(k) for k in whole[["method", "stage"]].to_numpy()} == {
        (m, s) for m in ("SLUG text", "SLUG vision") for s in ("before", "after")
    }
    assert (
        finding(whole)
        == "Mira Kestrel (CLIP; SLUG vision): FA@1 went from 70.0 % to 10.0 %. With the other"
        " edits, and what lost most: SLUG text: 0.0 %."
        and results_table(whole).count("<table>") == 2
    )


def test_a_method_keeps_its_own_row_before_the_edit():
    whole = per_method(
        rows(("A", "before", 0.7), ("B", "before", 0.5), ("A", "after", 0.0), ("B", "after", 0.1))
    )
    before = whole[whole["stage"] == "before"].set_index("method")["value"]
    assert before["A"] == 0.7 and before["B"] == 0.5 and len(whole) == 4


def test_without_an_edited_row_nothing_changes():
    frame = rows(("SLUG", "before", 0.7))
    assert per_method(frame).equals(frame) and "yet" in finding(frame)


def test_a_later_measurement_of_the_oracle_does_not_bring_a_method_to_the_front():
    frame = rows(
        ("SLUG", "before", 0.7),
        ("SLUG", "after", 0.3),
        ("SLUG text", "after", 0.0),
        ("SLUG", "oracle", 0.0),
    )
    whole = per_method(frame)
    assert whole["method"].iloc[0] == "SLUG text" and "from 70.0 % to 0.0 %" in finding(whole)
    assert {tuple(k) for k in whole[["method", "stage"]].to_numpy()} == {
        (m, s) for m in ("SLUG", "SLUG text") for s in ("before", "after", "oracle")
    }


def test_families_keep_their_order_and_a_cosine_is_no_percentage():
    pictures = rows(("SLUG", "before", 0.1), ("SLUG, step by UA", "after", 0.9)).assign(
        family="diffusion", metric="UA"
    )
    fit = rows(("SLUG", "before", 0.41), ("SLUG, step by UA", "after", 0.25)).assign(
        family="diffusion", metric="text-image cosine"
    )
    whole = per_method(
        pd.concat(
            [rows(("SLUG", "before", 0.7), ("SLUG text", "after", 0.0)), pictures, fit],
            ignore_index=True,
        )
    )
    assert list(dict.fromkeys(whole["family"])) == ["clip", "diffusion"]
    page = results_table(whole)
    assert "0.41" in page and "41.0 %" not in page and "90.0 %" in page


def test_the_finding_names_shares_alone_beside_a_share():
    frame = rows(("A", "before", 0.0), ("A", "after", 1.0))
    others = [
        frame.assign(group="people", value=0.9, low=0.8, high=1.0),
        frame.assign(group="rest", metric="text-image cosine", value=0.77),
    ]
    said = finding(pd.concat([frame, *others], ignore_index=True))
    assert "people 90.0 % to 90.0 %" in said and "rest" not in said


def test_the_finding_says_what_every_other_edit_did_to_the_target_and_to_whom_it_cost_most():
    frame = rows(("SLUG", "before", 0.7), ("paper's rule", "after", 0.0), ("spared", "after", 0.1))
    groups = [
        frame.assign(group=group, metric=metric, value=values, low=values, high=values)
        for group, metric, values in (
            ("people", "accuracy", [0.9, 0.2, 0.88]),
            ("objects", "accuracy", [0.8, 0.7, 0.8]),
            ("worst target", "FA@1", [1.0, 0.0, 0.3]),
        )
    ]
    assert (
        finding(per_method(pd.concat([frame, *groups], ignore_index=True)))
        == "Mira Kestrel (CLIP; spared): FA@1 went from 70.0 % to 10.0 %; people 90.0 % to 88.0 %,"
        " objects 80.0 % to 80.0 %, worst target 100.0 % to 30.0 %. With the other edits, and"
        " what lost most: paper's rule: 0.0 %, people 90.0 % to 20.0 %."
    )


def test_the_first_sentence_is_about_the_picture_beside_it(tmp_path):
    drawn = rows(("SLUG", "before", 0.7), ("SLUG", "after", 0.1))
    later = rows(("SLUG", "before", 0.7), ("SLUG-R", "after", 0.0))
    (tmp_path / "metrics").mkdir()
    lost = drawn.assign(group="people", metric="accuracy", value=[0.9, 0.4], low=0.4, high=0.9)
    second = drawn.assign(concept="Kofi Okoye", value=0.5)
    own = pd.concat([drawn, lost, second], ignore_index=True).assign(wording="mean")
    own.to_parquet(tmp_path / "metrics" / "06.parquet")
    figures = {"06_pictures": [{"stem": "figures/before_after_0"}], "09_spared": []}
    whole = per_method(pd.concat([drawn, later], ignore_index=True))
    shown, lead = report._first_screen(tmp_path, figures, whole)
    assert shown == figures["06_pictures"][0] and "10.0 % (SLUG); what lost most" in lead
    assert "people, 90.0 % to 40.0 %" in lead
    assert report._first_screen(tmp_path, {}, whole) == (None, report._lead(whole))


def test_where_nobody_lost_the_sentence_says_so_and_concepts_without_a_before_say_nothing():
    frame = rows(("SLUG", "before", 0.7), ("SLUG", "after", 0.0))
    kept = frame.assign(group="people", metric="accuracy", value=0.9, low=0.8, high=1.0)
    assert report._lead(per_method(pd.concat([frame, kept]))).endswith("; no other group lost.")
    several = rows(("SLUG", "after", 0.0)).assign(concept="Mira Kestrel and 2 more")
    (clip,) = report._families(per_method(pd.concat([frame, several], ignore_index=True)))
    assert len(clip["findings"]) == 1 and "Mira Kestrel (CLIP" in clip["findings"][0]
