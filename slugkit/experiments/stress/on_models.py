"""What the tables of a Stable Diffusion and a LLaVA under stress have in common: the model
unedited and with each edit, one person after another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from slugkit.base import SearchFailedError, data_dir
from slugkit.data import Source, StudioSource
from slugkit.experiments.cluster import Cluster
from slugkit.experiments.family_sweeps import opened_family
from slugkit.experiments.methods import FORGET, RETAIN
from slugkit.experiments.stress.summary import KEYS, UNEDITED
from slugkit.experiments.sweep import one_at_a_time, place_of, require_rows
from slugkit.models import Clip
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.retain import RetainSide

FILE = "stress_{}.csv"
"""Name of a family's table in data/studio."""
STRESS = {"diffusion": "drawings", "vlm": "answers"}
"""What its rows hold in the column stress."""
Asked = Callable[[Clip, Source, Any, str], Callable[[Any], Iterator[dict]]]
"""CLIP, data, family and concept -> model -> rows, each with its setting, n and measures."""


def rows_about(
    family: str, model: str, clip: str, methods: Sequence[str], asked: Asked, concept: str
) -> list[dict]:
    """The rows of one concept, in whatever process: of the unedited model, and of the model with
    each method's edit, or where none forgets with the one that came nearest.

    No row, and a word on stderr, for a concept that the model does not know.
    """
    net, source, on, _ = opened_family(family, model, clip)
    side, found = RetainSide(net, source, [concept], RETAIN), []
    try:
        for method in methods:
            given = {"on": on, "shared": side, "forget_size": FORGET}
            ranked = found[0] if method == "SLUG-R" else None
            found.append(unlearn(net, source, concept, method, ranked=ranked, **given))
    except SearchFailedError as unknown:
        print(f"{concept} is left out. {unknown}", file=sys.stderr)
        return []
    now, plain, rows = asked(net, source, on, concept), on.vlm if family == "vlm" else on.pipe, []

    def note(model: Any, name: str, tower: str = "", forgotten: bool | None = None) -> None:
        known = {"concept": concept, "stress": STRESS[family], "tower": tower, "name": name}
        rows.extend(known | {"steps": 0, "forgotten": forgotten} | row for row in now(model))

    note(plain, UNEDITED)
    for each in found:
        forgotten = bool(each.patches)
        each.patches = each.patches or each.nearest
        with each.applied(plain) as edited:
            note(edited, each.method, *each.patches, forgotten)
    return [{k: round(v, 2) if isinstance(v, float) else v for k, v in r.items()} for r in rows]


def sweep_models(
    family: str,
    methods: Sequence[str],
    asked: Asked,
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    clip: str = "studio",
    processes: int | Cluster = 1,
) -> pd.DataFrame:
    """Make the family's model forget each person by every method, and ask it again; a CSV that is
    written after every concept, so that the same call goes on where it stopped.

    Args:
        family: "diffusion" or "vlm".
        concepts: None takes the world's report people.
        out: None is data/studio/stress_FAMILY.csv.
        processes: concepts at once, or a `Cluster`.

    Raises:
        UnknownConceptError, SettingError: for a model of one's own without a file.
        SearchFailedError: where the model knows none of the concepts.
    """
    path = place_of(out, FILE.format(family), model, clip)
    _, source, _, made = opened_family(family, model, clip)
    for concept in concepts or []:
        source.kind(concept)
    order = source.world.report["person"]
    rows_of = partial(rows_about, family, model, clip, tuple(methods), asked)
    table = one_at_a_time(rows_of, concepts or order, order, path, made, processes=processes)
    require_rows(table)
    return table


def models_table(source: Source, family: str) -> pd.DataFrame:
    """What `slugkit sweep --stress --family` left of the studio's model; empty where there is
    nothing, or for other data.
    """
    path = data_dir() / "studio" / FILE.format(family)
    if not isinstance(source, StudioSource) or not path.is_file():
        return pd.DataFrame(columns=["concept", *KEYS])
    return pd.read_csv(path).fillna({"tower": ""})
