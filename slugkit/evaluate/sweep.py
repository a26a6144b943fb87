"""Several concepts, one at a time, each from the unedited model: the table of the workbook, and what it says on average."""

from __future__ import annotations

from collections.abc import Callable
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import SearchFailedError, data_dir, from_cell, progress, sha256_file, sha256_json, write_csv
from slugkit.data import open_data
from slugkit.evaluate.concept import Forgetting, forget_concept, front_layers, report_metrics
from slugkit.evaluate.statistics import bootstrap_mean
from slugkit.models import load_clip
from slugkit.ranking import short

GROUPS = ("neighbours", "people", "objects", "styles")


def table_row(found: Forgetting, metrics: pd.DataFrame, tower: str, kind: str, draws: str = "any") -> dict:
    """One line of the table of concepts: winner, rho, front, and every group before, after and for the oracle.

    draws: "any" or "first", as in `front_layers`.
    """
    row = {"concept": found.concept, "kind": kind, "tower": tower, "draws": draws,
           "front": " ".join(short(n) for n in front_layers(found.layers, tower, draws))}
    edit = (found.patches if draws == "any" else found.first).get(tower)
    row |= {"winner": short(edit.layer) if edit else "none forgets", "rho": edit.rho if edit else np.nan, "lam": edit.lam if edit else np.nan}
    after = (metrics["stage"] == "after") & (metrics["tower"] == tower) & (metrics["draws"] == draws)
    for stage, rows in (("before", metrics[metrics["stage"] == "before"]), ("after", metrics[after]), ("oracle", metrics[metrics["stage"] == "oracle"])):
        for _, m in rows.iterrows():
            name = m["metric"].replace("@", "").lower() if m["group"] == "target" else m["group"]
            row |= {f"{name}_{stage}": m["value"], f"{name}_{stage}_low": m["low"], f"{name}_{stage}_high": m["high"], f"{name}_n": m["n"]}
    return row


def kept_rows(path: Path, weights: str, concepts: list[str]) -> pd.DataFrame:
    """Rows of an earlier sweep of the same weights about other concepts; without such a file an empty table."""
    if not path.is_file():
        return pd.DataFrame()
    table = pd.read_csv(path)
    as_written = pd.read_csv(path, dtype=str, keep_default_na=False)  # 7 and None are names too
    for name in {"concept", "weights"} & set(table):
        table[name] = as_written[name].map(from_cell)
    return table[(table["weights"] == weights) & ~table["concept"].isin(concepts)] if "weights" in table else pd.DataFrame()


def one_at_a_time(rows_of: Callable[[str], list[dict]], concepts: list[str], order: list[str], path: Path, weights: str) -> pd.DataFrame:
    """The table of `rows_of` each concept, in the given order and written after every concept; rows about others that the file holds stay
    if they were made with the same weights."""
    table = kept_rows(path, weights, concepts)
    for concept in progress(concepts, "forgetting each concept"):
        table = pd.concat([table, pd.DataFrame(rows_of(concept)).assign(weights=weights)], ignore_index=True)
        table = table.sort_values("concept", kind="stable", ignore_index=True,
                                  key=lambda names: names.map({c: i for i, c in enumerate(order)}).fillna(len(order)))
        write_csv(path, table.round(6))
    return table


def sweep(concepts: list[str] | None = None, out: str | Path | None = None, model: str = "studio", data: str = "studio",
          seed: int = 0, device: str = "auto") -> pd.DataFrame:
    """Forget each concept on its own, both towers, and report it. Writes a CSV after every concept and returns the table.

    concepts: None takes the world's report concepts, or all of a folder's. out: None writes data/studio/report_concepts.csv; beside it, under
    the same name with `_summary`, the means over concepts. Rows about other concepts that the file holds stay if they were
    made with the same weights (column `weights`, the start of their SHA-256). A concept that the model does not know is left out and said so. Raises
    UnknownConceptError, SearchFailedError where it knows none.
    """
    clip = load_clip(model, device)
    source = open_data(data, *clip.inputs)
    order = [c for names in source.world.report.values() for c in names] if data == "studio" else source.concepts()
    for concept in concepts or []:
        source.kind(concept)
    concepts = concepts or order
    path = Path(out) if out else data_dir() / "studio" / "report_concepts.csv"
    weights = (sha256_file(clip.weights) if clip.weights else sha256_json(clip.source))[:16]
    table = kept_rows(path, weights, concepts)
    for concept in progress(concepts, "forgetting each concept"):
        try:
            found = forget_concept(clip, source, concept, seed=seed)
        except SearchFailedError as unknown:
            print(f"{concept} is left out. {unknown}", file=sys.stderr)
            continue
        metrics = report_metrics(clip, source, found)
        rows = [table_row(found, metrics, tower, source.kind(concept), draws) for tower in ("text", "vision") for draws in ("any", "first")]
        table = pd.concat([table, pd.DataFrame(rows).assign(weights=weights)], ignore_index=True)
        table = table.sort_values("concept", kind="stable", key=lambda names: names.map({c: i for i, c in enumerate(order)}), ignore_index=True)
        write_csv(path, table.round(6))
    if table.empty:
        raise SearchFailedError("The model knows none of the concepts, so there is no table; one or more was expected. The reasons are above.")
    write_csv(path.with_stem(f"{path.stem}_summary"), summarise(table).round(3))
    return table


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Means over concepts, from the table of `slugkit sweep`.

    One row for each tower, choice of draws, kind of concept ("all" first) and measure: `FA@1 after` in percent, and the
    change of every group in points (after minus before). Columns tower, draws, kind, measure, mean, low, high (95 %
    bootstrap over concepts; NaN for a single concept), worst (the largest loss, or the largest FA@1), of which concept, n.
    """
    rows = []
    for (tower, draws), part in table.groupby(["tower", "draws"], sort=False):
        for kind, mine in [("all", part), *part.groupby("kind", sort=False)]:
            measures = {"FA@1 after": 100 * mine["fa1_after"]}
            measures |= {f"{g} change": 100 * (mine[f"{g}_after"] - mine[f"{g}_before"]) for g in GROUPS if f"{g}_after" in mine}
            for measure, values in measures.items():
                values = values.dropna()
                if values.empty:
                    continue
                low, high = bootstrap_mean(values.to_numpy())
                worst = values.idxmax() if measure.startswith("FA") else values.idxmin()
                rows.append({"tower": tower, "draws": draws, "kind": kind, "measure": measure, "mean": values.mean(), "low": low, "high": high,
                             "worst": values[worst], "of": table.loc[worst, "concept"], "n": len(values)})
    return pd.DataFrame(rows)
