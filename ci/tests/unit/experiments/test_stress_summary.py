"""What the table of stresses says: means over people, the way back, and the figures of both."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from slugkit.base import EmptySetError, SettingError
from slugkit.experiments.stress import STRESSES
from slugkit.experiments.stress.membership import told_apart
from slugkit.experiments.stress.rounding import FORMS, in_bits
from slugkit.experiments.stress.summary import (
    METRICS,
    over_people,
    verdict,
    verdicts,
    way_back,
    wide,
)
from slugkit.experiments.stress.words import misspellings
from slugkit.workbook import plots

PEOPLE = ["a", "b", "c", "d", "e", "f"]


def row(concept, name, tower="", stress="other words", setting="report wordings", steps=0, **found):
    measured = dict.fromkeys(METRICS, math.nan) | {"FA@1": 0.0, "FA@5": 0.0} | found
    known = {"concept": concept, "tower": tower, "name": name, "stress": stress}
    return known | {"setting": setting, "steps": steps, "n": 100} | measured


def a_table():
    """Six people, two of whom have an oracle; SLUG comes back halfway by relearning."""
    rows = []
    for number, c in enumerate(PEOPLE):
        models = [("unedited", "", 100.0, 90.0), ("SLUG", "text", 0.0, 50.0 + 10 * number)]
        models += [("oracle", "", 0.0, 10.0)] if number < 2 else []
        for name, tower, plain, after in models:
            rows.append(row(c, name, tower, **{"FA@1": plain, "FA@5": plain}))
            made_up = 30.0 if tower else 0.0
            rows.append(row(c, name, tower, setting="made-up names", **{"FA@5": made_up}))
            misspelt = {"unedited": 80.0, "oracle": 0.0, "SLUG": 50.0}[name]
            rows.append(row(c, name, tower, setting="misspelt", **{"FA@5": misspelt}))
            for steps in (0, 20):
                value = {"FA@1": after if steps else plain, "FA@5": after}
                setting = {"stress": "relearning", "setting": "8 pictures of it"}
                rows.append(row(c, name, tower, **setting, steps=steps, **value))
            seen = {"unedited": 95.0, "oracle": 70.0, "SLUG": 95.0}[name]
            probe = {"FA@1": seen, "FA@5": math.nan}
            rows.append(row(c, name, tower, "probes on features", "linear probe", **probe))
            member = {"FA@1": math.nan, "FA@5": math.nan, "AUC": 52.0}
            rows.append(row(c, name, tower, "membership", "", **member))
        undone = {"FA@1": 100.0, "FA@5": 100.0, "others right": 97.0}
        rows.append(row(c, "SLUG", "text", "undoing", "tower put back", **undone))
    return pd.DataFrame(rows)


def test_means_over_people_have_an_interval_from_five_up_and_no_row_where_nothing_was_measured():
    found = over_people(a_table()).set_index(["stress", "steps", "name", "metric"])
    mine = found.loc[("relearning", 20, "SLUG", "FA@1")]
    assert mine["mean"] == pytest.approx(75) and mine["people"] == 6
    assert mine["low"] < 75 < mine["high"]
    oracle = found.loc[("relearning", 20, "oracle", "FA@1")]
    assert oracle["people"] == 2 and math.isnan(oracle["low"])
    assert ("membership", 0, "SLUG", "FA@1") not in found.index
    assert ("undoing", 0, "unedited", "FA@1") not in found.index


def test_the_way_back_is_taken_of_the_people_who_have_an_oracle_after_the_last_step():
    found = way_back(a_table()).set_index(["stress", "setting"])
    mine = found.loc[("relearning", "8 pictures of it")]
    assert mine["measure"] == "FA@5"
    assert found.loc[("other words", "misspelt"), "measure"] == "FA@5 above a made-up name"
    assert mine["unedited"] == pytest.approx(90) and mine["oracle"] == pytest.approx(10)
    assert mine["SLUG, text"] == pytest.approx(100 * (55 - 10) / 80)  # of a and b alone
    assert ("other words", "report wordings") not in found.index  # it is no stress
    assert found.loc[("undoing", "tower put back"), "SLUG, text"] == 100
    # thirty of the fifty points are what any name reaches
    assert found.loc[("other words", "misspelt"), "SLUG, text"] == pytest.approx(25)
    assert ("other words", "made-up names") not in found.index  # a control
    below = a_table()
    below.loc[(below["setting"] == "misspelt") & (below["tower"] == "text"), "FA@5"] = 10.0
    again = way_back(below).set_index(["stress", "setting"])
    assert again.loc[("other words", "misspelt"), "SLUG, text"] == 0  # less than any name
    alike = found.loc[("membership", "")]
    assert alike["measure"] == "AUC" and math.isnan(alike["SLUG, text"])
    assert way_back(a_table().query("name != 'oracle'")).empty


def test_verdicts_are_given_where_all_agree():
    table = a_table()
    found = verdicts(table)
    assert found.loc[("relearning", "8 pictures of it"), "SLUG, text"] == "differs"  # 50 and 62 %
    assert found.loc[("undoing", "tower put back"), "SLUG, text"] == "comes back"
    assert found.loc[("membership", ""), "SLUG, text"] == "tells nothing"
    assert found.loc[("probes on features", "linear probe"), "SLUG, text"] == "as unedited"
    assert math.isnan(way_back(table).set_index("setting").loc["linear probe", "SLUG, text"])
    table.loc[(table["steps"] == 20) & (table["name"] == "SLUG"), "FA@5"] = 0.0
    found = verdicts(table)
    assert found.loc[("relearning", "8 pictures of it"), "SLUG, text"] == "below the oracle"
    assert [verdict(x) for x in (0, 10, 50, 51)] == [
        "holds",
        "holds",
        "comes back in part",
        "comes back",
    ]
    assert verdicts(table.query("name != 'oracle'")).empty


def test_one_person_alone_gives_no_verdict_where_a_stress_tells_nothing_over_all():
    table = a_table()
    member = (table["stress"] == "membership") & (table["name"] == "unedited")
    table.loc[member & (table["concept"] == "a"), "AUC"] = 68.0  # the other ends are at 52
    alone = table[table["concept"].isin(["a", *PEOPLE[2:]])]
    assert verdicts(alone).loc[("membership", ""), "SLUG, text"] == "holds"
    assert verdicts(table).loc[("membership", ""), "SLUG, text"] == "tells nothing"


def test_the_table_to_read_has_models_down_and_settings_across_in_their_order():
    shown = wide(over_people(a_table()), "relearning", ["FA@5", "FA@1"])
    assert list(shown.columns)[0] == ("8 pictures of it", 0, "FA@5")
    assert [name for _, name, _ in shown.index] == ["unedited", "SLUG", "oracle"]
    assert shown.loc[("text", "SLUG", 6), ("8 pictures of it", 20, "FA@1")].startswith("75.0 [")
    assert shown.loc[("", "oracle", 2), ("8 pictures of it", 20, "FA@1")] == "10.0"


def test_misspellings_are_wrong_by_a_letter_distinct_and_the_same_every_time():
    found = misspellings("Oskar Marlow", 8)
    assert len(set(found)) == 8 and found == misspellings("Oskar Marlow", 8)
    assert "oskar marlow" not in {said.lower() for said in found}
    assert all(abs(len(said) - 12) <= 1 and " " in said for said in found)
    assert found != misspellings("Oskar Marlow", 8, seed=1)
    assert misspellings("X") == [] and len(misspellings("Al")) <= 6


def test_rounding_by_hand_and_no_farther_than_half_a_step():
    rows = torch.tensor([[1.0, -0.6, 0.26], [0.0, 0.0, 0.0]])
    told = in_bits(rows, 3)  # steps of a third of the largest
    assert torch.allclose(told, torch.tensor([[1.0, -2 / 3, 1 / 3], [0.0, 0.0, 0.0]]), atol=1e-6)
    w = torch.randn(7, 4, 3, 3)
    for bits in (4, 8):
        step = w.reshape(7, -1).abs().amax(1) / (2 ** (bits - 1) - 1)
        off = (in_bits(w, bits) - w).abs().reshape(7, -1).amax(1)
        assert (off <= step / 2 + 1e-6).all() and (off > 0).all()
    bias = torch.randn(5)
    assert in_bits(bias, 4) is bias
    errors = [float((form(w) - w).abs().max()) for form in FORMS.values()]
    assert errors[0] == 0 and errors == sorted(errors)  # each form is coarser than the one before


def test_membership_is_told_by_hand():
    high, low = np.arange(101, 201) / 200, np.arange(1, 101) / 200
    assert told_apart(high, low) == {"AUC": 100, "found at 1 % false": 100}
    assert told_apart(low, low)["AUC"] == pytest.approx(50)
    # ten of a hundred members lie above all but one of the non-members
    mixed = told_apart(np.r_[np.full(10, 0.999), np.zeros(90)], np.r_[low + 0.4, 1.0])
    assert mixed["found at 1 % false"] == pytest.approx(10)


def test_the_figures_say_what_comes_back():
    summary = over_people(a_table())
    fig, says = plots.relearned(summary, "FA@1")
    assert "20 steps on 8 pictures of it bring FA@1 back to" in says and "SLUG (text) 75 %" in says
    fig, says = plots.under_stress(summary, "undoing")
    assert "text tower at most 100 %, SLUG, tower put back" in says
    fig, says = plots.under_stress(summary, "other words", "FA@5")
    assert "50 %, SLUG, misspelt (oracle 0 %, unedited 80 %, made-up names 30 %)" in says
    fig, says = plots.way_back(way_back(a_table()))
    assert "whatever the edit: relearning: 8 pictures of it and undoing: tower put back" in says
    assert "At most 10 %: none" in says
    plt.close("all")
    with pytest.raises(EmptySetError):
        plots.under_stress(summary, "no such stress")
    with pytest.raises(SettingError, match="no column mean"):
        plots.relearned(summary.drop(columns="mean"), "FA@1")


def test_every_stress_has_a_docstring_that_says_what_is_done():
    assert len(STRESSES) == 7 and all(run.__doc__ for run in STRESSES.values())
