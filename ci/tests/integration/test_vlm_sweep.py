"""Both methods on a LLaVA: the paper's layer, equal budgets, what a row says, and the means over
concepts.
"""

import numpy as np
import pandas as pd
import pytest
from tiny_questions import asked_about

from slugkit.base import SearchFailedError, SettingError
from slugkit.data import open_data
from slugkit.experiments import family_sweeps as room
from slugkit.experiments.sweep import summarise
from slugkit.method.layers import layer_table, short
from slugkit.models import load_clip
from slugkit.models.weight_map import differences
from slugkit.unlearning import families
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import ARMS
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.vlm import paper_layer, writing_layers

WHO = "Mira Kestrel"


@pytest.fixture(scope="module")
def clip():
    return load_clip("studio", "cpu")


def scored(clip, strong: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """The layer table; the named layers have this importance and alignment, all others
    are beaten.
    """
    table = layer_table(clip.model)
    names = table["layer"].map(short)
    table["importance"] = names.map({k: v[0] for k, v in strong.items()}).fillna(0.1)
    table["alignment"] = names.map({k: v[1] for k, v in strong.items()}).fillna(0.9)
    return table


def test_the_papers_layer_is_the_deepest_of_the_blocks_front_that_is_read(clip, tiny_vlm):
    best = {"conv1": (9.0, 0.01), "visual.proj": (8.0, 0.02)}
    inside = {"1.mlp.c_proj": (3.0, 0.3), "3.attn.in_proj": (2.0, 0.2), "2.mlp.c_fc": (1.0, 0.1)}
    outside = {"5.mlp.c_proj": (1.0, 0.05)}
    assert short(paper_layer(scored(clip, best | inside), tiny_vlm)) == "3.attn.in_proj"
    assert short(paper_layer(scored(clip, best | inside | outside), tiny_vlm)) == "3.attn.in_proj"
    alone = {"5.mlp.c_proj": (9.0, 0.01)}  # its front is not read at all: that of the rest counts
    assert short(paper_layer(scored(clip, best | inside | alone), tiny_vlm)) == "3.attn.in_proj"
    none = scored(clip, inside)
    with pytest.raises(SearchFailedError, match="No candidate in a block"):
        paper_layer(none.assign(candidate=none["layer"].str.contains("conv1|proj$")), tiny_vlm)


@pytest.fixture(scope="module")
def rows(clip, tiny_vlm, few_records):
    """What one person's rows are, asked about eight pictures that the model knows by heart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "questions_about", lambda *given, **how: asked_about(few_records))
        report = asked_about(few_records, "report")
        patch.setattr(room, "question_set", lambda *given: report)
        patch.setattr(
            room, "stranger_set", lambda world: report.take(report.table["group"] == "people")
        )
        source = open_data("studio")
        side = RetainSide(clip, source, [WHO], 24, 12)
        made = room.vlm_rows(
            clip, tiny_vlm, source, WHO, shared=side, forget_size=4, batch_size=4, max_trials=8
        )
    assert differences(clip.model, tiny_vlm.model, "vision") == []
    return pd.DataFrame(made)


def test_every_row_of_a_comparison_has_the_same_budget_and_says_what_it_used(clip, tiny_vlm, rows):
    assert rows[["method", "layers"]].values.tolist() == [
        [m, which] for m in ARMS for which in ("front", "all")
    ]
    whole, front = rows[rows["layers"] == "all"], rows[rows["layers"] == "front"]
    searched = len(set(writing_layers(clip, tiny_vlm)))
    assert (
        whole["probes"].between(searched, 8 * (searched + 1)).all()
        and front["probes"].between(1, 8).all()
    )
    assert whole["pairs"].tolist() == [28, 32], "SLUG-R asks the four conversations too"
    assert (
        (rows["peak_mb"] > 0).all()
        and (whole["seconds"] > 0).all()
        and front["seconds"].isna().all()
    )


def test_a_row_holds_what_is_said_before_and_after(rows):
    assert (rows["right_name_before"] > 0.9).all() and (rows["strangers_before"] >= 0.5).all()
    forgot = rows[rows["winner"] != "none forgets"]
    assert {"SLUG-R"} <= set(forgot["method"]) and (forgot["right_name_after"] == 0).all()
    assert (
        forgot["right_name_after"] + forgot["another_name_after"] + forgot["no_name_after"] == 1
    ).all()
    lost = rows[rows["winner"] == "none forgets"]
    assert lost["right_name_after"].isna().all() and lost["rho"].isna().all()


def test_the_means_are_over_concepts_in_pairs_and_name_the_worst():
    groups = ("own", "neighbours", "strangers", "battery")
    keys = ("right_name", "right_name_worst", "another_name", "no_name", *groups)
    made = []
    for number, concept in enumerate("ABCDE"):
        for method, loss in (("SLUG", 0.2), ("SLUG-R", 0.01 * number)):
            row = {f"{k}_before": 1.0 for k in keys} | {f"{k}_after": 1 - loss for k in groups}
            row |= {f"{k}_after": loss / 2 for k in keys[:4]}
            made.append(
                {
                    "concept": concept,
                    "kind": "person",
                    "tower": "vision",
                    "layers": "all",
                    "method": method,
                }
                | row
            )
    found = summarise(pd.DataFrame(made), room.MEASURES["vlm"])
    found = found[found["kind"] == "all"].set_index(["method", "measure"])
    line = found.loc["SLUG-R", "neighbours change"]
    assert line["mean"] == pytest.approx(-2) and (line["worst"], line["of"]) == (
        pytest.approx(-4),
        "E",
    )
    assert line["low"] < -2 < line["high"] and line["n"] == 5
    assert found.loc[("SLUG-R", "right name after"), "of"] == "E"
    both = found.loc["SLUG-R minus SLUG", "strangers not named change"]
    assert both["mean"] == pytest.approx(18) and both["of"] == "E"
    few = summarise(pd.DataFrame(made[:8]), room.MEASURES["vlm"])
    assert few["n"].max() == 4 and np.isnan(few["low"]).all()


def test_another_method_is_refused(clip, tiny_vlm):
    with pytest.raises(SettingError, match="The method"):
        unlearn(clip, open_data("studio"), WHO, "own", on=tiny_vlm)
