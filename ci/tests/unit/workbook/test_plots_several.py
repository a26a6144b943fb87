"""Figures about several concepts: what they say is computed from the table, and unequal tables are
refused.
"""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from fake_tables import curve_table, interference_table, pictures, title_of

from slugkit.base import SettingError
from slugkit.workbook import plots


def test_the_matrix_tells_the_largest_toll_and_outlines_the_diagonal():
    fig, says = plots.interference(interference_table())
    assert (
        title_of(fig)
        == "Each edit leaves its own concept at 1 % at most; the largest loss of another: "
        "Ann loses 40 points when Ben is forgotten"
    )
    assert says.endswith("0 of 2 other concepts gain more than 5 points.")
    ax = fig.axes[0]
    assert [(patch.get_x(), patch.get_y()) for patch in ax.patches] == [(0, 1), (1, 2)]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["nothing", "Ann", "Ben"] and [
        t.get_text() for t in ax.texts
    ][:3] == ["90", "100", "98"]
    with pytest.raises(SettingError, match="measured"):
        plots.interference(interference_table().drop(columns="measured"))


def test_a_matrix_of_one_edit_makes_no_claim_about_others():
    table = interference_table()
    fig, _ = plots.interference(
        table[
            table["forgotten"].isin(["nothing", "Ann"]) & table["measured"].isin(["Ann", "people"])
        ]
    )
    assert title_of(fig) == "Each edit leaves its own concept at 0 % at most"


def test_the_curves_tell_the_end_of_the_first_and_the_last_way_and_draw_both_orders():
    fig, says = plots.forgetting_curves(curve_table())
    assert (
        title_of(fig) == "3 concepts at once. SLUG, added: FA@5 6 %, other people 68 %; "
        "SLUG-R, added: FA@5 6 %, other people 98 %"
    )
    assert "2 ways, 2 orders" in says
    axes = {ax.get_ylabel(): ax for ax in fig.axes if ax.get_visible()}
    assert list(axes) == [
        "targets, first answer (%)",
        "targets, in first five (%)",
        "worst target, in first five (%)",
        "worst wording, in first five (%)",
        "other people right (%)",
        "characters right (%)",
    ]
    assert all(len(ax.lines) == 4 for ax in axes.values())
    lines = axes["other people right (%)"].lines
    assert list(lines[0].get_ydata()) == pytest.approx([88, 78, 68])
    looks = [(line.get_marker(), line.get_color()) for line in lines]
    assert looks[0] == looks[1] and looks[2] == looks[3] and len(set(looks)) == 2


def test_an_arm_has_its_colours_whatever_other_ways_stand_beside_it():
    looks = []
    for others in ({}, {"SLUG, added": "SLUG, in turn"}):
        curve = curve_table().replace(others)
        fig, _ = plots.forgetting_curves(curve[curve["way"] != "SLUG, added"])
        looks.append(fig.axes[0].lines[-1].get_color())
    assert looks[0] == looks[1]


def test_more_panels_than_six_stand_in_three_columns():
    table = curve_table()
    more = [table[table["group"] == "people"].assign(group=g) for g in ("neighbours", "objects")]
    fig, _ = plots.forgetting_curves(pd.concat([table, *more]))
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert len(shown) == 8 and shown[0].get_subplotspec().get_gridspec().ncols == 3


def test_a_cosine_matrix_outlines_several_targets():
    before = np.eye(3) * 0.8
    after = before - np.diag([0.4, 0.3, 0.05])
    fig, says = plots.cosine_matrix(
        before, after, ["Ann", "Ben", "Cyd"], pictures(3), target=[0, 1]
    )
    assert (
        title_of(fig)
        == "The cosine of Ann with its own picture falls from 0.80 to 0.40, that of Ben with its"
        " own picture falls from 0.80 to 0.50; the other matching pairs move by at most 0.05"
    )
    assert "of Ann and of Ben outlined" in says and len(fig.axes[0].patches) == 4
