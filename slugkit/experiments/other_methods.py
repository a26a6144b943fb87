"""The other methods on a Stable Diffusion and on a LLaVA, at the budget of SLUG on four layers: the
tables of `slugkit sweep --methods --family`, and what they say beside SLUG's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from slugkit.base import data_dir, require_choice
from slugkit.experiments.cluster import Cluster
from slugkit.experiments.compared import FORGOTTEN
from slugkit.experiments.family_sweeps import (
    MEASURES,
    asked_now,
    concepts_drawn,
    drawn_now,
    measured_rows,
    opened_family,
)
from slugkit.experiments.methods import FORGET, RETAIN, check_budgets
from slugkit.experiments.sweep import one_at_a_time, place_of, require_rows
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.methods import METHODS, method_named
from slugkit.unlearning.probing import PROBES, Budget
from slugkit.unlearning.retain import RetainSide

TOWERS = {"diffusion": "pipeline", "vlm": "vlm"}
"""Family -> what methods that work on its models call them."""
LABELS = {"front": "{}, the authors' layer", "all": "{}"}
"""Sets of layers in the tables of `slugkit sweep --family` -> what stands in the comparison."""


def methods_on(family: str) -> list[str]:
    """Those that work on the family's models themselves."""
    return [m.name for m in METHODS.values() if TOWERS[family] in m.towers]


def other_rows(
    family: str, model: str, clip: str, methods: Sequence[str], concept: str
) -> list[dict]:
    """One row a method: what it used up, and every measure before and after; where no state forgot,
    of the one that came nearest, and `forgotten` is false.
    """
    net, source, on, _ = opened_family(family, model, clip)
    side = RetainSide(net, source, [concept], RETAIN)
    pairs = len(source.forget_set(concept, FORGET, 0)) + len(side.pairs)
    budget, found = Budget(pairs, PROBES), []
    for name in methods or methods_on(family):
        given = {"on": on, "shared": side, "budget": budget, "forget_size": FORGET}
        found.append(unlearn(net, source, concept, name, **given))

    def more(one: Any) -> dict:
        drawn = int(one.table["drawn"].max()) if "drawn" in one.table else 0
        row = {"forgotten": one.method in able, "drawn": drawn, "unused": one.unused}
        return row | {"may_pairs": budget.pairs, "may_probes": budget.probes}

    able = {one.method for one in found if one.patches}
    edits = [replace(one, patches=one.patches or one.nearest) for one in found]
    if family == "vlm":
        looked = on.vlm, source.kind(concept), asked_now(source, concept)
    else:
        looked = on.pipe, source.kind(concept), drawn_now(on.judge, source, concept)
    return measured_rows(edits, *looked, more)


def sweep_others(
    family: str,
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    clip: str = "studio",
    processes: int | Cluster = 1,
    methods: Sequence[str] = (),
) -> pd.DataFrame:
    """Forget each concept by every other method that works on the family's model; written after
    every concept, so that the same call goes on where it stopped.

    Args:
        family: "diffusion" or "vlm".
        concepts: None takes those of `slugkit sweep --family`.
        out: None writes data/studio/methods/FAMILY.csv.
        processes: concepts at once, or a `Cluster`.
        methods: names; none takes all.

    Raises:
        UnknownConceptError, SettingError: before anything starts.
        CheckFailed: a budget was missed.
    """
    require_choice(family, tuple(TOWERS), "The family")
    methods = [method_named(name).name for name in methods]
    for name in methods:
        require_choice(name, methods_on(family), f"The method of {family}")
    path = place_of(out, f"methods/{family}.csv", model, clip)
    _, source, _, made = opened_family(family, model, clip)
    made += f", methods={' + '.join(methods)}" if methods else ""
    for concept in concepts or []:
        source.kind(concept)
    drawn = family == "diffusion"
    order = concepts_drawn(source.world) if drawn else source.world.report["person"]
    table = one_at_a_time(
        partial(other_rows, family, model, clip, tuple(methods)),
        concepts or order,
        order,
        path,
        made,
        processes=processes,
    )
    require_rows(table)
    check_budgets(table)
    return table


def beside_others(family: str, others: pd.DataFrame | None = None) -> pd.DataFrame:
    """What `slugkit sweep --methods --family` measured, and, of the same concepts and models, what
    `slugkit sweep --family` did: a row a method and concept.

    others: the former; None reads data/studio. Empty where there is nothing.
    """
    where = data_dir() / "studio"
    ours, file = where / f"{family}_concepts.csv", where / "methods" / f"{family}.csv"
    if others is None:
        if not file.is_file():
            return pd.DataFrame(columns=["concept", "method", "weights"])
        others = pd.read_csv(file)
    if not ours.is_file():
        return others
    mine = pd.read_csv(ours)
    labels = [LABELS[which].format(m) for which, m in mine[["layers", "method"]].to_numpy()]
    mine = mine.assign(method=labels, forgotten=mine["winner"] != "none forgets")
    same = mine["weights"].isin(others["weights"]) & mine["concept"].isin(others["concept"])
    return pd.concat([mine[same], others], ignore_index=True)


def whole(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Of `beside_others` the concepts about which every method has numbers: a method that leaves
    no edit where none forgets must not look better for it.
    """
    measured = MEASURES[family](table).iloc[:, 0].notna()
    lacking = table.loc[~measured, "concept"]
    return table[~table["concept"].isin(lacking)]


def others_by_concept(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Of `beside_others`, as `slugkit.experiments.compared.by_concept` has it: the measures of the
    family in percent and points, of pictures also "still shown", 100 less UA; FORGOTTEN; and what
    it took.
    """
    found = MEASURES[family](table).assign(**{FORGOTTEN: 100.0 * table["forgotten"].astype(bool)})
    if "UA" in found:
        found["still shown"] = 100 - found["UA"]
    for name in ("seconds", "drawn", "probes"):
        if name in table:
            found[name] = table[name]
    keys = [table["method"], pd.Series(1, table.index, name="times"), table["concept"]]
    return found.groupby(keys, sort=False).mean()
