"""Every method at equal budgets: the table of `slugkit sweep --methods`, its check, and what it
says over concepts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from slugkit import patch
from slugkit.base import CheckFailed, SearchFailedError
from slugkit.data import Source
from slugkit.evaluation.clip import Scorer
from slugkit.evaluation.leftover import log_answers, mean_kl
from slugkit.experiments.cluster import Cluster
from slugkit.experiments.sweep import (
    made_of,
    one_at_a_time,
    opened,
    place_of,
    require_rows,
    table_row,
)
from slugkit.models import Clip
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import evaluate, load_oracle, require_known
from slugkit.unlearning.laps import Laps
from slugkit.unlearning.methods import METHODS, method_named
from slugkit.unlearning.probing import PROBES, Budget
from slugkit.unlearning.result import Result
from slugkit.unlearning.retain import RetainSide

FORGET, RETAIN = 120, 2560
"""Pairs of the two sets: SLUG sees each of them once, which is what every method may use."""
SLACK = 0.1
"""By how much a budget may be missed without a word."""
MORE = 10
"""How many times the pairs the methods that train are given once more."""


class Part(NamedTuple):
    """A part of the table, a file of its own: a tower, how many times SLUG's pairs, and a seed.

    retain: pairs of the retain set. per_style: report pictures, as of `Source.exam`.
    """

    tower: str = "text"
    times: int = 1
    seed: int = 0
    retain: int = RETAIN
    per_style: int = 0

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.tower}-{self.times}x-seed{self.seed}.csv"

    @property
    def methods(self) -> list[str]:
        """Those that are compared: all that can change the tower, or, with more pairs, train."""
        able = [m for m in METHODS.values() if self.tower in m.towers]
        return [m.name for m in able if m.trains or self.times == 1]


PARTS = [Part(), Part(seed=1), Part(seed=2)]
"""What the committed table holds: three seeds at SLUG's own budget."""


def methods_rows(
    clip: Clip, source: Source, concept: str, part: Part, methods: Sequence[str] = ()
) -> list[dict]:
    """One row a method: what it changed and used up, and the report of the edit.

    Where no state forgot, the edit that came nearest is reported, and `forgotten` is false: leaving
    such concepts out would flatter a method. seconds hold what methods share (the retain gradient
    of both towers, the features of the pairs) as if each that asked for it had computed it.

    methods: names; none takes those of the part. No row, and a word on stderr, for a concept that
    the model does not know.
    """
    scorer = Scorer(clip, source.exam(concept, "search"))
    try:
        require_known(scorer, scorer.criterion())
    except SearchFailedError as unknown:
        print(f"{concept} is left out. {unknown}", file=sys.stderr)
        return []
    side, laps = RetainSide(clip, source, [concept], part.retain, seed=part.seed), Laps()
    for shared in ("gradient", "features"):
        with laps(shared):
            getattr(side, shared)
    pairs = len(source.forget_set(concept, FORGET, part.seed)) + len(side.pairs)
    budget, found = Budget(part.times * pairs, PROBES), []
    given = {"shared": side, "seed": part.seed, "towers": (part.tower,), "forget_size": FORGET}
    for name in methods or part.methods:
        side.used.clear()
        one = unlearn(clip, source, concept, name, budget=budget, **given)
        one.costs["seconds"] += sum(laps.seconds[shared] for shared in side.used)
        found.append(one)
    return _reported(clip, source, found, part, budget)


def _reported(
    clip: Clip, source: Source, found: list[Result], part: Part, budget: Budget
) -> list[dict]:
    """The rows of results about one concept."""
    edits = [replace(each, patches=each.patches or each.nearest) for each in found]
    metrics, concept = evaluate(clip, source, edits, part.per_style), found[0].concept
    oracle = load_oracle(clip, concept)
    exam = source.exam(concept, "report", part.per_style)
    wanted = None if oracle is None else log_answers(oracle, exam)
    before = None if wanted is None else log_answers(clip, exam)
    rows = []
    for each, edited in zip(found, edits, strict=True):
        row = table_row(edited, metrics, part.tower, source.kind(concept))
        edit = edited.patches.get(part.tower)
        row |= {"seed": part.seed, "times": part.times}
        row |= {"may_pairs": budget.pairs, "may_probes": budget.probes}
        row |= {"forgotten": part.tower in each.patches}
        row |= {"layers_changed": len(getattr(edit, "patches", [edit])) if edit else 0}
        row |= {"unused": each.unused}
        if wanted is not None and edit:
            with patch.applied(edit, clip.model):
                now = log_answers(clip, exam)
            row |= {"kl_before": mean_kl(wanted, before), "kl_after": mean_kl(wanted, now)}
            same = wanted.argmax(-1) == now.argmax(-1)
            row["same_answer_after"] = float(same.float().mean())
        rows.append(row)
    return rows


def sweep_methods(
    concepts: list[str] | None = None,
    parts: Sequence[Part] = tuple(PARTS),
    folder: str | Path | None = None,
    model: str = "studio",
    data: str = "studio",
    processes: int | Cluster = 1,
    methods: Sequence[str] = (),
) -> pd.DataFrame:
    """Forget each concept by every method at equal budgets; a file a part, written after every
    concept, so that the same call goes on where it stopped.

    concepts: None takes the world's report concepts. folder: None is data/studio/methods.
    processes: concepts at once, or a `Cluster`. methods: names; none takes all. Raises
    UnknownConceptError, SettingError for an unknown method, or a model of one's own without a
    folder; CheckFailed where a budget was missed.
    """
    methods = [method_named(name).name for name in methods]
    where = place_of(folder, "methods", model, data)
    clip, source = opened(model, data)
    for concept in concepts or []:
        source.kind(concept)
    order, made = source.reported(), made_of(clip, data, {}, methods=" + ".join(methods))
    where.mkdir(parents=True, exist_ok=True)
    tables = [
        one_at_a_time(
            partial(_part_rows, model, data, part, tuple(methods)),
            concepts or order,
            order,
            where / part.file,
            made,
            processes=processes,
        )
        for part in parts
    ]
    table = pd.concat(tables, ignore_index=True)
    require_rows(table)
    check_budgets(table)
    return table


def _part_rows(
    model: str, data: str, part: Part, methods: Sequence[str], concept: str
) -> list[dict]:
    """The rows of one concept, in whatever process."""
    return methods_rows(*opened(model, data), concept, part, methods)


def check_budgets(table: pd.DataFrame) -> None:
    """Raises CheckFailed, naming the rows, where a method used more than its budget, or less
    without saying why: in pairs or in probes, by more than a tenth of what it may.
    """
    wrong = []
    for what in ("pairs", "probes"):
        share = table[what] / table[f"may_{what}"]
        bad = (share > 1 + SLACK) | ((share < 1 - SLACK) & table["unused"].fillna("").eq(""))
        for row in table[bad].to_dict("records"):
            wrong.append(f"{row['method']} on {row['concept']}: {row[what]:.0f} {what}")
    if wrong:
        raise CheckFailed(
            f"{len(wrong)} budgets were missed by more than {100 * SLACK:.0f} % without a word:"
            f" {'; '.join(wrong[:5])}. Equal budgets were expected; let the method use its own, or"
            " say in `Trial.remarks` why it cannot."
        )
