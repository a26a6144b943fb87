"""Several concepts, one at a time, each from the unedited model: the table of the workbook, and
what it says on average.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import (
    SearchFailedError,
    data_dir,
    from_cell,
    progress,
    sha256_file,
    sha256_json,
    write_csv,
)
from slugkit.data import Source, open_data
from slugkit.evaluate.oracle import oracle_distances
from slugkit.evaluate.statistics import LEAST_FOR_AN_INTERVAL, MEAN, WORST, bootstrap_mean
from slugkit.method.layers import short
from slugkit.models import Clip, load_clip
from slugkit.unlearn.call import unlearn
from slugkit.unlearn.concept import METHODS, evaluate, load_oracle
from slugkit.unlearn.result import Result, front_layers
from slugkit.unlearn.retain import RetainSide

BAD_IF_SMALL = ("change", "UA")
"""How the names of measures end whose smallest value is the worst; of all others it is the largest.
"""
GROUPS = ("neighbours", "people", "characters", "objects", "styles")


def table_row(found: Result, metrics: pd.DataFrame, tower: str, kind: str) -> dict:
    """One line of the table of concepts: method, winner, rho, front, every group before, after and
    for the oracle, and what the method took.

    Of the target FA@1 and FA@5, the mean over the report wordings (with its interval) and the
    worst.
    """
    edit = found.patches.get(tower)
    row = {
        "concept": found.concept,
        "kind": kind,
        "tower": tower,
        "method": found.method,
        "layers": found.which,
        "front": " ".join(short(n) for n in front_layers(found.layers, tower)),
        "winner": short(edit.layer) if edit else "none forgets",
        "rho": edit.rho if edit else np.nan,
        "lam": edit.lam if edit else np.nan,
        **found.costs,
    }
    own = (metrics["tower"] == tower) & (metrics["method"] == found.method)
    own &= metrics["layers"] == found.which
    mine = metrics[~metrics["stage"].eq("after") | own]
    for _, m in mine[mine["wording"].isin([MEAN, WORST])].iterrows():
        name = m["metric"].replace("@", "").lower() if m["group"] == "target" else m["group"]
        if m["wording"] == WORST:
            row |= {f"{name}_{m['stage']}_worst": m["value"]} if m["group"] == "target" else {}
            continue
        key = f"{name}_{m['stage']}"
        row |= {key: m["value"], f"{key}_low": m["low"], f"{key}_high": m["high"]}
        row |= {f"{name}_n": m["n"]}
    return row


def distances(clip: Clip, source: Source, concept: str, found: list[Result]) -> dict[str, dict]:
    """Hash of an edit -> kl_before and kl_after, `oracle_distances` without and with it; nothing
    where no oracle was trained.
    """
    oracle = load_oracle(clip, concept)
    if oracle is None:
        return {}
    edits = {edit.sha256: edit for f in found for edit in f.patches.values()}
    far = oracle_distances(clip, oracle, source.exam(concept, "report"), edits)
    return {name: {"kl_before": far["before"], "kl_after": far[name]} for name in edits}


def kept_rows(
    path: Path, weights: str, concepts: list[str], towers: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Rows of an earlier sweep of the same weights about other concepts, or other towers than
    these; without such a file an empty table.
    """
    if not path.is_file():
        return pd.DataFrame()
    table = pd.read_csv(path)
    as_written = pd.read_csv(path, dtype=str, keep_default_na=False)  # 7 and None are names too
    for name in {"concept", "weights"} & set(table):
        table[name] = as_written[name].map(from_cell)
    if "weights" not in table:
        return pd.DataFrame()
    again = table["concept"].isin(concepts)
    again &= table["tower"].isin(towers) if towers else True
    return table[(table["weights"] == weights) & ~again]


def one_at_a_time(
    rows_of: Callable[[str], list[dict]],
    concepts: list[str],
    order: list[str],
    path: Path,
    weights: str,
    towers: tuple[str, ...] = (),
) -> pd.DataFrame:
    """The table of `rows_of` each concept, in the given order and written after every concept; rows
    about others that the file holds stay if they were made with the same weights, and so do
    those about other towers than these.
    """
    table = kept_rows(path, weights, concepts, towers)
    for concept in progress(concepts, "forgetting each concept"):
        rows = pd.DataFrame(rows_of(concept))
        if rows.empty:  # it was left out, and said so
            continue
        table = pd.concat([table, rows.assign(weights=weights)], ignore_index=True)
        table = table.sort_values(
            "concept",
            kind="stable",
            ignore_index=True,
            key=lambda names: names.map({c: i for i, c in enumerate(order)}).fillna(len(order)),
        )
        write_csv(path, table.round(6))
    return table


def sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    data: str = "studio",
    seed: int = 0,
    device: str = "auto",
    towers: tuple[str, ...] = ("text", "vision"),
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods in both towers, on the front and on all
    candidates, and report it.

    Writes a CSV after every concept and returns the table.

    concepts: None takes the world's report concepts, or all of a folder's. out: None writes
    data/studio/report_concepts.csv; beside it, under the same name with `_summary`, the means over
    concepts. towers: those that are searched. settings: as of `unlearn`. Rows about other
    concepts and towers that the file holds stay if they were made with the same weights (column
    `weights`, the start of their SHA-256). A concept that the model does not know is left out and
    said so. Raises UnknownConceptError, SearchFailedError where it knows none.
    """
    clip = load_clip(model, device)
    source = open_data(data, *clip.inputs)
    order = (
        [c for names in source.world.report.values() for c in names]
        if data == "studio"
        else source.concepts()
    )
    for concept in concepts or []:
        source.kind(concept)
    path = Path(out) if out else data_dir() / "studio" / "report_concepts.csv"
    weights = (sha256_file(clip.weights) if clip.weights else sha256_json(clip.source))[:16]

    def rows_of(concept: str) -> list[dict]:
        side, found = RetainSide(clip, source, [concept], seed=seed), []
        try:
            for method in METHODS:
                ranked = found[0] if found else None
                given = {"shared": side, "ranked": ranked, "seed": seed, "which": "all"}
                given |= {"towers": towers, **settings}
                found.append(unlearn(clip, source, concept, method, **given))
        except SearchFailedError as unknown:
            print(f"{concept} is left out. {unknown}", file=sys.stderr)
            return []
        found = [each for f in found for each in (f.on_front(clip), f)]
        metrics, kind = evaluate(clip, source, found), source.kind(concept)
        far = distances(clip, source, concept, found)
        return [
            table_row(f, metrics, tower, kind)
            | far.get(f.patches[tower].sha256 if tower in f.patches else "", {})
            for tower in towers
            for f in found
        ]

    table = one_at_a_time(rows_of, concepts or order, order, path, weights, towers)
    if table.empty:
        raise SearchFailedError(
            "The model knows none of the concepts, so there is no table; one or more was expected."
            " The reasons are above."
        )
    write_csv(path.with_stem(f"{path.stem}_summary"), summarise(table).round(3))
    return table


def measures_of(table: pd.DataFrame) -> pd.DataFrame:
    """What is averaged over concepts, a column each, in percent and points: FA@1 and FA@5 after,
    their worst wording, and the change of every group; the distance from the oracle in nats, where
    there is one.

    Of a style no FA@5 counts: it stands among seven, and the criterion is FA@1.
    """
    found = {}
    for k in (1, 5):
        asked = (table["kind"] != "style") | (k == 1)
        found[f"FA@{k} after"] = (100 * table[f"fa{k}_after"]).where(asked)
        found[f"FA@{k} after, worst wording"] = (100 * table[f"fa{k}_after_worst"]).where(asked)
    for group in GROUPS:
        if f"{group}_after" in table:
            found[f"{group} change"] = 100 * (table[f"{group}_after"] - table[f"{group}_before"])
    for stage in ("before", "after") if "kl_after" in table else ():
        found[f"KL from the oracle {stage}"] = table[f"kl_{stage}"]
    return pd.DataFrame(found)


def summarise(table: pd.DataFrame, measures_of: Callable = measures_of) -> pd.DataFrame:
    """Over concepts, from the table of `slugkit sweep`: both methods, and SLUG-R minus SLUG in
    pairs.

    One row for each tower, set of layers, method, kind of concept ("all" first) and measure (of
    `measures_of`; whose names end in one of BAD_IF_SMALL are worst where they are smallest).
    Columns tower, layers, method, kind, measure, mean, median, low, high (95 % bootstrap over
    concepts; NaN for fewer than five), worst (the largest loss, or the largest FA), of which
    concept, n.
    """
    rows = []
    for (tower, layers), part in table.groupby(["tower", "layers"], sort=False):
        whole = measures_of(part).assign(
            concept=part["concept"], kind=part["kind"], method=part["method"]
        )
        by = {m: whole[whole["method"] == m].set_index("concept") for m in METHODS}
        numbers = [c for c in whole if c not in ("concept", "kind", "method")]
        both = by["SLUG-R"][numbers] - by["SLUG"][numbers]
        by["SLUG-R minus SLUG"] = both.assign(kind=by["SLUG"]["kind"])
        for method, mine in by.items():
            for kind, some in [("all", mine), *mine.groupby("kind", sort=False)]:
                rows += [
                    {
                        "tower": tower,
                        "layers": layers,
                        "method": method,
                        "kind": kind,
                        "measure": m,
                        **over_concepts(some[m], not m.endswith(BAD_IF_SMALL)),
                    }
                    for m in numbers
                    if some[m].notna().any()
                ]
    return pd.DataFrame(rows)


def over_concepts(values: pd.Series, largest: bool = False) -> dict:
    """Mean, median, low and high (95 % bootstrap; NaN for fewer than five), worst, of (its concept)
    and n of one number a concept. largest: the worst is the largest, not the smallest.
    """
    values = values.dropna()
    low = high = np.nan
    if len(values) >= LEAST_FOR_AN_INTERVAL:
        low, high = bootstrap_mean(values.to_numpy())
    worst = values.idxmax() if largest else values.idxmin()
    return {
        "mean": values.mean(),
        "median": values.median(),
        "low": low,
        "high": high,
        "worst": values[worst],
        "of": worst,
        "n": len(values),
    }
