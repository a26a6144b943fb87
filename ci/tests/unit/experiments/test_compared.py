"""What the table of all methods says: means, differences, ranks, and the figure of it."""

import math

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from slugkit.base import SettingError
from slugkit.experiments import compared
from slugkit.experiments.methods import MORE, PARTS, Part
from slugkit.unlearning.methods import METHODS
from slugkit.workbook import plots

CONCEPTS = ["a", "b", "c", "d", "e", "f"]


def row(concept, method="SLUG", times=1, seed=0, **after):
    """A row as `methods_rows` writes it, of a person with 10 neighbours and 90 other people."""
    found = {"concept": concept, "kind": "person", "tower": "text", "method": method}
    found |= {"times": times, "seed": seed, "forgotten": True, "seconds": 10.0, "pairs": 2680}
    found |= {"probes": 40, "rho": 0.5, "fa1_oracle": math.nan, "kl_before": 1.0, "kl_after": 2.0}
    found |= {"styles_n": 50, "styles_before": 1.0, "styles_after": 1.0}
    stands = {"fa1": 0.0, "fa5": 0.0, "fa1_after_worst": 0.0, "fa5_after_worst": 0.1}
    found |= {f"{name}_before": 1.0 for name in ("neighbours", "people")}
    found |= {"neighbours_n": 10, "people_n": 90, "neighbours_after": 0.5, "people_after": 0.9}
    found |= {k if "_" in k else f"{k}_after": v for k, v in stands.items()}
    return found | after


def a_table():
    rows = [row(c) for c in CONCEPTS]
    rows += [row(c, "GAFT", people_after=0.95, seconds=20.0) for c in CONCEPTS]
    rows += [row(c, "GAFT", 10, people_after=1.0, seconds=90.0) for c in CONCEPTS]
    rows += [row(c, "FT", forgotten=c == "a", fa5_after_worst=1.0) for c in CONCEPTS]
    return pd.DataFrame(rows)


def test_a_concepts_row_is_the_mean_over_seeds_and_groups_weigh_by_their_pictures():
    two = pd.DataFrame([row("a", people_after=0.9), row("a", seed=1, people_after=0.7)])
    each = compared.by_concept(two).loc[("SLUG", 1, "a")]
    assert each[compared.OTHERS] == pytest.approx(-20)  # neighbours are among the people
    assert each["people change"] == pytest.approx(-20)
    assert each["FA@5 after, worst wording"] == pytest.approx(10)


def test_seconds_are_those_of_the_first_seed_since_others_ran_elsewhere():
    there = {"seconds": 2.0, "probes": 20, "rho": 0.1}
    two = pd.DataFrame([row("a", seconds=30.0), row("a", seed=1, **there)])
    each = compared.by_concept(two).loc[("SLUG", 1, "a")]
    assert each["seconds"] == 30 and each["probes"] == 30
    assert each["rho, %"] == 30


def test_groups_weigh_by_their_pictures_and_one_that_is_not_there_weighs_nothing():
    both = row("a", objects_n=30, objects_before=1.0, objects_after=0.5)
    both |= {"characters_n": math.nan, "characters_before": math.nan, "characters_after": math.nan}
    found = compared.by_concept(pd.DataFrame([both]))
    assert found[compared.OTHERS].item() == pytest.approx((-10 * 90 - 50 * 30) / 120)


def test_differences_are_taken_concept_by_concept_to_slug_at_its_own_budget():
    table = a_table()
    table.loc[(table["method"] == "SLUG") & (table["concept"] == "a"), "people_after"] = 0.3
    apart = compared.beside_slug(compared.by_concept(table))
    assert ("SLUG", 1) not in set(zip(apart["method"], apart["times"]))
    mine = apart.set_index(["method", "times", "measure"]).loc[("GAFT", 10, "people change")]
    assert mine["mean"] == pytest.approx((5 * 10 + 70) / 6) and mine["n"] == 6
    assert mine["low"] >= 10 - 1e-9 and mine["worst"] == pytest.approx(10)


def test_few_concepts_have_no_interval():
    few = compared.over_all(compared.by_concept(a_table().query("concept in ['a', 'b']")))
    assert few["low"].isna().all()
    assert compared.over_all(compared.by_concept(a_table()))["low"].notna().all()


def test_who_forgets_too_few_is_not_ranked_and_small_is_good_where_it_should_be():
    found = compared.ranked(compared.over_all(compared.by_concept(a_table())))
    assert sorted(found.index) == [("GAFT", 1), ("GAFT", 10), ("SLUG", 1)]
    assert ("FT", 1) not in found.index and ("oracle", 0) not in found.index
    assert found.loc[("GAFT", 10), compared.OTHERS] == 1
    assert found.loc[("SLUG", 1), compared.OTHERS] == 3


def test_the_oracle_stands_with_its_own_numbers_and_without_costs():
    table = a_table()
    known = {"fa1_oracle": 0.2, "fa5_oracle": 0.3, "fa5_oracle_worst": 0.4}
    known |= {"people_oracle": 1.0, "neighbours_oracle": 1.0, "fa1_oracle_worst": 0.2}
    first = table["concept"] == "a"
    table.loc[first, list(known)] = pd.DataFrame([known] * int(first.sum())).to_numpy()
    [oracle] = compared.oracle_rows(table).to_dict("records")
    assert oracle["method"] == "oracle" and oracle["fa5_after_worst"] == 0.4
    each = compared.by_concept(pd.DataFrame([oracle]))
    assert each[compared.OTHERS].item() == 0 and each["FA@1 after"].item() == 20
    assert math.isnan(oracle["seconds"])


def test_the_table_to_read_and_the_figure(tmp_path):
    summary = compared.over_all(compared.by_concept(a_table()))
    read = compared.wide(summary, [compared.OTHERS, "people change", "no such measure"])
    assert list(read) == [compared.OTHERS, "people change", "concepts"] and len(read) == 4
    assert read.loc[("SLUG", 1), "people change"].startswith("-10.0 [-10.0")
    fig, says = plots.trade_off(summary)
    assert (
        "GAFT with 10 times the pairs (+0.0 points), then GAFT (-5.0 points)" in says
        and " FT (" not in says
    )
    numbered = {text.get_text() for text in fig.axes[1].texts}
    assert {"SLUG", "GAFT", "GAFT, 10 times the pairs", "FT", "1", "4"} <= numbered
    plt.close(fig)
    with pytest.raises(SettingError, match="no column times"):
        plots.trade_off(summary.drop(columns="times"))


def test_parts_name_files_of_their_own_and_give_more_pairs_only_to_those_that_train():
    assert len({part.file for part in PARTS}) == len(PARTS)
    on_clip = {m.name: m for m in METHODS.values() if "text" in m.towers}
    trained = {m.name for m in on_clip.values() if m.trains}
    assert set(Part(times=MORE).methods) == trained and "SLUG" not in trained
    assert set(Part().methods) == set(on_clip) and "null space" not in Part("vision").methods


def test_only_what_was_forgotten_counts_as_near_the_oracle_and_none_is_no_error():
    table = a_table().assign(kl_before=3.0, same_answer_after=0.5)
    table.loc[table["method"] == "FT", "kl_after"] = 0.1
    found = compared.near_oracle(table)
    assert found.loc[("FT", 1), "concepts"] == 1 and found.loc[("SLUG", 1), "concepts"] == 6
    assert found.loc[("SLUG", 1), "kl_after"] == 2 and found.index[0] == ("FT", 1)
    bare = a_table().drop(columns=["kl_after", "fa1_oracle"])
    assert compared.near_oracle(bare).empty and compared.oracle_rows(bare).empty
