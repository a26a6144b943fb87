"""Figures about answers: what they say is computed, wrong tables are refused."""

import matplotlib

matplotlib.use("Agg")

import pytest
from fake_tables import costs_table, outcomes_table
from test_plots import pictures, title_of

from slugkit.base import SettingError, ShapeError
from slugkit.workbook import plots


def test_outcomes_are_told_for_the_target_first_and_by_state():
    fig, says = plots.outcome_bars(outcomes_table())
    assert (
        title_of(fig) == "The target is named: before 98 %, step by CLIP 90 %, step by answers 0 %"
    )
    assert (
        says.startswith("target, before: right name 98 %, another name 1 % and no name 1 %")
        and "people, step by answers: right name 60 %" in says
    )
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()][:2] == [
        "target, before  (n 84)",
        "target, step by CLIP  (n 84)",
    ]


def test_a_dialogue_of_unequal_lists_is_refused():
    with pytest.raises(ShapeError, match="3 pictures, 3 questions and 2 answers"):
        plots.dialogue(pictures(3), ["?"] * 3, {"before": ["a", "b"]})


def test_the_cost_of_forgetting_is_told_for_the_best_layer_of_each_direction():
    fig, says = plots.layer_costs(
        costs_table(), ["2.mlp.c_fc", "2.mlp.c_proj", "4.mlp.c_proj"], 0.977
    )
    assert title_of(fig).endswith("keeps: SLUG 80 % (2.mlp.c_proj), SLUG-R 97 % (4.mlp.c_proj)")
    assert "before the edit 97.7 %" in says and says.endswith(
        "Along SLUG 4.mlp.c_proj never forgot."
    )
    assert [label.get_text() for label in fig.axes[0].get_yticklabels()] == [
        "2.mlp.c_fc",
        "2.mlp.c_proj",
        "4.mlp.c_proj",
    ]
    with pytest.raises(SettingError, match="retain_own"):
        plots.layer_costs(costs_table().drop(columns="retain_own"), ["2.mlp.c_fc"], 0.9)
