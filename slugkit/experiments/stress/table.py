"""The table of `slugkit sweep --stress`: every stress on every model, concept by concept."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError, require_choice
from slugkit.data import Source
from slugkit.experiments.cluster import Cluster
from slugkit.experiments.methods import FORGET, RETAIN
from slugkit.experiments.stress import STRESSES, Case, Material
from slugkit.experiments.sweep import made_of, one_at_a_time, opened, place_of, require_rows
from slugkit.models import Clip
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import load_oracle
from slugkit.unlearning.probing import Budget
from slugkit.unlearning.result import Result
from slugkit.unlearning.retain import RetainSide

EDITS = (
    ("text", "SLUG"),
    ("text", "SLUG-R"),
    ("text", "GAFT"),
    ("text", "SalUn, ascent"),
    ("vision", "SLUG"),
    ("vision", "SLUG-R"),
)
"""Tower and method of the edits that are tried: both arms in both towers, and the two rivals that
lose least in the table of all methods, where that table was made."""


def edited(clip: Clip, edit: patch.Patch | patch.PatchSet) -> Clip:
    """A copy of the model that holds the edit."""
    model = copy.deepcopy(clip.model)
    for each in getattr(edit, "patches", [edit]):
        patch.apply(each, model)
    return replace(clip, model=model)


def found_edits(
    clip: Clip, source: Source, concept: str, edits: Sequence[tuple[str, str]] = (), seed: int = 0
) -> Iterator[tuple[str, Result]]:
    """Tower and result of each edit, of EDITS if none is named, made with the budget that all
    methods have in their table.

    Raises SearchFailedError where the model does not know the concept.
    """
    side = RetainSide(clip, source, [concept], RETAIN, seed=seed)
    pairs = len(source.forget_set(concept, FORGET, seed)) + len(side.pairs)
    given = {"budget": Budget(pairs), "forget_size": FORGET, "seed": seed, "shared": side}
    for tower, method in edits or EDITS:
        yield tower, unlearn(clip, source, concept, method, towers=(tower,), **given)


def cases(
    clip: Clip, source: Source, concept: str, edits: Sequence[tuple[str, Result]], seed: int = 0
) -> Iterator[Case]:
    """The unedited model, its oracle if there is one, and a copy with each edit; where a search
    found no step that forgets, with the one that came nearest.
    """
    given = Material(source, concept, seed)
    yield Case("unedited", "", clip, clip, None, given)
    oracle = load_oracle(clip, concept)
    if oracle is not None:
        yield Case("oracle", "", oracle, clip, None, given)
    for tower, found in edits:
        edit = found.patches.get(tower) or found.nearest.get(tower)
        if edit is None:
            print(f"{found.method} changes nothing of {concept}, and is left out.", file=sys.stderr)
            continue
        yield Case(found.method, tower, edited(clip, edit), clip, edit, given)


def stressed(case: Case, stresses: Sequence[str] = ()) -> list[dict]:
    """The rows of some stresses, or all, about one model."""
    rows = []
    for name in stresses or STRESSES:
        require_choice(name, STRESSES, "The stress")
        torch.manual_seed(case.given.seed)
        for row in STRESSES[name](case):
            known = {"concept": case.concept, "tower": case.tower, "name": case.name}
            row = {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
            rows.append({**known, "stress": name, "setting": "", "steps": 0, "n": 0, **row})
    return rows


def _rows(model: str, data: str, seed: int, stresses: Sequence[str], concept: str) -> list[dict]:
    """The rows of one concept, in whatever process."""
    clip, source = opened(model, data)
    try:
        edits = list(found_edits(clip, source, concept, seed=seed))
    except SearchFailedError as unknown:
        print(f"{concept} is left out. {unknown}", file=sys.stderr)
        return []
    forgotten = {(tower, each.method): tower in each.patches for tower, each in edits}
    rows = []
    for case in cases(clip, source, concept, edits, seed):
        known = forgotten.get((case.tower, case.name), np.nan)
        rows += [{**row, "forgotten": known} for row in stressed(case, stresses)]
    return rows


def sweep_stress(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    data: str = "studio",
    seed: int = 0,
    processes: int | Cluster = 1,
    stresses: Sequence[str] = (),
) -> pd.DataFrame:
    """Make each concept be forgotten by every method of EDITS, and put every model under stress; a
    CSV that is written after every concept, so that the same call goes on where it stopped.

    concepts: None takes the world's report people, or all of a folder's. out: None is
    data/studio/stress.csv. processes: concepts at once, or a `Cluster`. Raises
    UnknownConceptError, SettingError for an unknown stress or a model of one's own without a file,
    SearchFailedError where the model knows none of the concepts.
    """
    for name in stresses:
        require_choice(name, STRESSES, "The stress")
    path = place_of(out, "stress.csv", model, data)
    clip, source = opened(model, data)
    order = source.best_known("person") or source.concepts()
    for concept in concepts or []:
        source.kind(concept)
    made = made_of(clip, data, {}, seed=seed, stresses=" + ".join(stresses))
    rows_of = partial(_rows, model, data, seed, tuple(stresses))
    given = concepts or order, order, path, made
    table = one_at_a_time(rows_of, *given, processes=processes)
    require_rows(table)
    return table
