"""Several concepts, one at a time, each from the unedited model: the engine of `slugkit sweep`, and
what it measures on a CLIP.

`slugkit.experiments.family_sweeps` says what it measures on the models that share a tower with one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from slugkit.base import (
    SearchFailedError,
    SettingError,
    data_dir,
    from_cell,
    progress,
    sha256_file,
    sha256_json,
    usable_cpus,
    write_csv,
)
from slugkit.data import Source, open_data
from slugkit.evaluation.leftover import oracle_distances
from slugkit.evaluation.statistics import LEAST_FOR_AN_INTERVAL, MEAN, WORST, bootstrap_mean
from slugkit.experiments.cluster import Cluster
from slugkit.method.layers import short
from slugkit.models import Clip, load_clip
from slugkit.models.fingerprint import weights_sha256
from slugkit.unlearning.call import unlearn
from slugkit.unlearning.concept import ARMS, evaluate, load_oracle
from slugkit.unlearning.result import Result, front_layers
from slugkit.unlearning.retain import RetainSide

BAD_IF_SMALL = ("change", "UA")
"""How measures end whose smallest value is the worst; of all others it is the largest."""
SUMMARY = ["tower", "layers", "method", "kind", "measure"]
SUMMARY += ["mean", "median", "low", "high", "worst", "of", "n"]
GROUPS = ("neighbours", "people", "characters", "objects", "styles")


@lru_cache(maxsize=1)
def opened(model: str, data: str, device: str = "auto") -> tuple[Clip, Source]:
    """A CLIP and the data as it reads them, loaded once in a process."""
    clip = load_clip(model, device)
    return clip, open_data(data, *clip.inputs)


def asking_on(processes: int | Cluster, device: str) -> str:
    """The device of the process that asks: it computes nothing where a cluster does."""
    return "cpu" if isinstance(processes, Cluster) else device


def weights_of(clip: Clip) -> str:
    """The SHA-256 of a model's weights, or of its name where a hub keeps them."""
    if clip.weights is None:
        return sha256_json(clip.source)
    return weights_sha256(clip.model) if clip.weights.is_dir() else sha256_file(clip.weights)


def made_by(weights: str, settings: dict) -> str:
    """The column `weights`: the start of the models' SHA-256, then settings that are not the usual
    ones.
    """
    return ", ".join([weights[:16], *(f"{k}={v}" for k, v in sorted(settings.items()))])


def made_of(clip: Clip, data: str, settings: dict, **if_any) -> str:
    """`made_by` this model on these data, which are named where they are not the studio's, with a
    mark of where they lie.

    if_any: further settings, of which 0 and "" are the usual values.
    """
    unusual = settings | {name: value for name, value in if_any.items() if value}
    if data != "studio":
        where = Path(data).resolve()
        unusual["data"] = f"{where.name} {sha256_json(str(where))[:8]}"
    return made_by(weights_of(clip), unusual)


def place_of(out: str | Path | None, usual: str, *which: str, **settings) -> Path:
    """Where a table goes: `usual`, in data/studio, where nobody says.

    which: the models and the data. settings: those that are not the usual ones. Raises SettingError
    where these are not all the studio's, or there are any, and nobody says.
    """
    others = [f"{name} {value}" for name, value in settings.items()]
    others += [name for name in which if name != "studio"]
    if out is None and others:
        raise SettingError(
            f"The table of {', '.join(others)} would stand in the place of the studio's; a place of"
            " its own was expected. Name one with --out."
        )
    return Path(out) if out else data_dir() / "studio" / usual


def require_rows(table: pd.DataFrame) -> None:
    """Raises SearchFailedError where every concept was left out."""
    if table.empty:
        raise SearchFailedError(
            "The model knows none of the concepts, so there is no table; one or more was expected."
            " The reasons are above."
        )


def kept_rows(path: Path, made: str) -> pd.DataFrame:
    """The rows that a file holds of the same weights and settings (`made_by`); that others made it
    is said.
    """
    if not path.is_file():
        return pd.DataFrame()
    table = pd.read_csv(path).round(6)
    as_written = pd.read_csv(path, dtype=str, keep_default_na=False)  # 7 and None are names too
    for name in {"concept", "weights"} & set(table):
        table[name] = as_written[name].map(from_cell)
    if "weights" not in table:
        table["weights"] = "unknown weights"
    others = sorted(set(table["weights"]) - {made})
    if others:
        said = f"{path.name} was made with {'; '.join(others)}; this sweep is made with {made}."
        print(f"{said} Those rows are left out, and their concepts begun anew.", file=sys.stderr)
    return table[table["weights"] == made]


def one_at_a_time(
    rows_of: Callable[[str], list[dict]],
    concepts: list[str],
    order: list[str],
    path: Path,
    made: str,
    towers: tuple[str, ...] = (),
    processes: int | Cluster = 1,
) -> pd.DataFrame:
    """The table of `rows_of` each concept, in the given order and written after every concept.

    Rows that the file holds stay if they are `made` in the same way (`made_by`); a concept whose
    rows about all `towers` are among them is not computed again. processes: concepts at once, or
    the cluster that computes them; either wants a `rows_of` that can be pickled.
    """
    table = kept_rows(path, made)
    known = table.groupby("concept") if len(table) else ()
    finished = {c for c, rows in known if set(towers) <= set(rows.get("tower", ()))}
    left = [c for c in dict.fromkeys(concepts) if c not in finished]
    if len(left) < len(concepts):
        print(
            f"{path.name} holds {len(concepts) - len(left)} of {len(concepts)} concepts already,"
            " made in the same way. Delete it to compute them again.",
            file=sys.stderr,
        )
    rank = {c: i for i, c in enumerate(order)}
    if isinstance(processes, Cluster):
        done = processes.rows(rows_of, left, path, made)
    else:
        done = _done(rows_of, left, processes)
    for concept, found in progress(done, "forgetting", len(left)):
        rows = pd.DataFrame(found)
        if rows.empty:  # it was left out, and said so
            continue
        if towers and len(table):
            table = table[(table["concept"] != concept) | ~table["tower"].isin(towers)]
        table = _put_in(table, rows.assign(weights=made).round(6), rank)
        write_csv(path, table)
    return table


def _put_in(table: pd.DataFrame, rows: pd.DataFrame, rank: dict[str, int]) -> pd.DataFrame:
    """The table with the rows of one more concept at its place, so that neither the order of rows
    nor that of columns depends on which concept was finished first.
    """
    if table.empty:
        return rows
    last = len(rank)
    places, mine = table["concept"].map(rank).fillna(last), rank.get(rows["concept"].iloc[0], last)
    parts = [table[places <= mine], rows, table[places > mine]]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _done(
    rows_of: Callable[[str], list[dict]], concepts: list[str], processes: int
) -> Iterator[tuple[str, list[dict]]]:
    """Each concept and its rows as soon as they are there."""
    at_once = min(processes, len(concepts))
    if at_once < 2:
        yield from ((concept, rows_of(concept)) for concept in concepts)
        return
    threads = max(1, usable_cpus() // at_once)
    how = {"initializer": torch.set_num_threads, "initargs": (threads,)}
    with ProcessPoolExecutor(at_once, get_context("spawn"), **how) as pool:
        waiting = {pool.submit(rows_of, concept): concept for concept in concepts}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def sweep_concepts(
    rows_of: Callable[[str], list[dict]],
    source: Source,
    concepts: list[str] | None,
    order: list[str],
    out: str | Path,
    made: str,
    measures_of: Callable[[pd.DataFrame], pd.DataFrame],
    towers: tuple[str, ...] = (),
    processes: int | Cluster = 1,
) -> pd.DataFrame:
    """`one_at_a_time`, and beside its file, under the same name with `_summary`, the means over
    concepts.

    concepts: None takes `order`. Raises UnknownConceptError before anything starts.
    """
    for concept in concepts or []:
        source.kind(concept)
    path = Path(out)
    table = one_at_a_time(rows_of, concepts or order, order, path, made, towers, processes)
    require_rows(table)
    write_csv(path.with_stem(f"{path.stem}_summary"), summarise(table, measures_of).round(3))
    return table


def retain_of(
    clip: Clip,
    source: Source,
    concept: str,
    seed: int = 0,
    retain_size: int = 2560,
    batch_size: int = 128,
    **others,
) -> RetainSide:
    """What both methods share about one concept. others: settings of `unlearn` that are not its."""
    return RetainSide(clip, source, [concept], retain_size, batch_size, seed)


def both_methods(clip: Clip, search: Callable[[str, Result | None], Result]) -> list[Result]:
    """What each method finds, on the front and on all candidates.

    search: method, and what the first method found, whose gradient and ranking are taken over.
    """
    whole: list[Result] = []
    for method in ARMS:
        whole.append(search(method, whole[0] if whole else None))
    return [part for each in whole for part in (each.on_front(clip), each)]


def chosen(found: Result, tower: str, kind: str, **more) -> dict:
    """The first columns of a row: what was chosen, and what it took. more: columns before that."""
    edit = found.patches.get(tower)
    return {
        "concept": found.concept,
        "kind": kind,
        "tower": tower,
        "method": found.method,
        "layers": found.which,
        **more,
        "winner": short(edit.layer) if edit else "none forgets",
        "rho": edit.rho if edit else np.nan,
        "lam": edit.lam if edit else np.nan,
        **found.costs,
    }


def table_row(found: Result, metrics: pd.DataFrame, tower: str, kind: str) -> dict:
    """One line of the table of concepts: what was chosen, the front, and every group before, after
    and for the oracle.

    Of the target FA@1 and FA@5, the mean over the report wordings (with its interval) and the
    worst.
    """
    front = " ".join(short(n) for n in front_layers(found.layers, tower))
    row = chosen(found, tower, kind, front=front)
    own = (metrics["tower"] == tower) & (metrics["method"] == found.method)
    own &= metrics["layers"] == found.which
    for m in metrics[~metrics["stage"].eq("after") | own].to_dict("records"):
        target = m["group"] == "target"
        name = m["metric"].replace("@", "").lower() if target else m["group"]
        key = f"{name}_{m['stage']}"
        if m["wording"] == WORST and target:
            row[f"{key}_worst"] = m["value"]
        elif m["wording"] == MEAN:
            row |= {key: m["value"], f"{key}_low": m["low"], f"{key}_high": m["high"]}
            row[f"{name}_n"] = m["n"]
    return row


def clip_rows(
    clip: Clip, source: Source, concept: str, towers: tuple[str, ...], seed: int = 0, **settings
) -> list[dict]:
    """One row a tower, method and set of layers, with the distance from the oracle where one was
    trained. settings: as of `unlearn`.
    """
    side = retain_of(clip, source, concept, seed=seed, **settings)
    given = {"shared": side, "seed": seed, "which": "all", "towers": towers, **settings}

    def search(method: str, ranked: Result | None) -> Result:
        return unlearn(clip, source, concept, method, ranked=ranked, **given)

    try:
        found = both_methods(clip, search)
    except SearchFailedError as unknown:
        print(f"{concept} is left out. {unknown}", file=sys.stderr)
        return []
    metrics, kind = evaluate(clip, source, found), source.kind(concept)
    oracle, far = load_oracle(clip, concept), {}
    if oracle is not None:
        edits = {edit.sha256: edit for f in found for edit in f.patches.values()}
        far = oracle_distances(clip, oracle, source.exam(concept, "report"), edits)
    rows = []
    for tower in towers:
        for each in found:
            row, edit = table_row(each, metrics, tower, kind), each.patches.get(tower)
            if far and edit:
                row |= {"kl_before": far["before"], "kl_after": far[edit.sha256]}
            rows.append(row)
    return rows


def _rows(
    model: str, data: str, device: str, towers: tuple[str, ...], settings: dict, concept: str
) -> list[dict]:
    """The rows of one concept, in whatever process."""
    return clip_rows(*opened(model, data, device), concept, towers, **settings)


def sweep(
    concepts: list[str] | None = None,
    out: str | Path | None = None,
    model: str = "studio",
    data: str = "studio",
    device: str = "auto",
    towers: tuple[str, ...] = ("text", "vision"),
    processes: int | Cluster = 1,
    **settings,
) -> pd.DataFrame:
    """Forget each concept on its own, by both methods in both towers, on the front and on all
    candidates, and report it.

    Writes a CSV after every concept and returns the table; called again, it goes on where it
    stopped (`one_at_a_time`).

    concepts: None takes the world's report concepts, or all of a folder's. out: None writes
    data/studio/report_concepts.csv; beside it the means over concepts. towers: those that are
    searched. processes: concepts at once, or a `Cluster`. settings: as of `unlearn`. A concept that
    the model does not know is left out and said so. Raises UnknownConceptError, SettingError for
    a model or data of one's own without a file, SearchFailedError where it knows none.
    """
    unusual = {name: value for name, value in settings.items() if (name, value) != ("seed", 0)}
    path = place_of(out, "report_concepts.csv", model, data, **unusual)
    clip, source = opened(model, data, asking_on(processes, device))
    return sweep_concepts(
        partial(_rows, model, data, device, towers, settings),
        source,
        concepts,
        source.reported(),
        path,
        made_of(clip, data, unusual),
        measures_of,
        towers,
        processes,
    )


def measured(clip: Clip, source: Source) -> pd.DataFrame:
    """What `slugkit sweep` measured of this very model on this source's report concepts, and left
    beside the source's files, a row a concept, tower, method and set of layers; empty where it left
    nothing.
    """
    path = source.path if source.path.is_dir() else source.path.parent
    path = path / "report_concepts.csv"
    if clip.weights is None or not path.is_file():
        return pd.DataFrame(columns=["concept", "tower", "layers"])
    table = pd.read_csv(path)
    return table[table["weights"] == made_by(weights_of(clip), {})]


def each_beside(table: pd.DataFrame) -> pd.DataFrame:
    """The measures of `measures_of` of each concept on its front, the methods side by side."""
    front = table[table["layers"] == "front"]
    if front.empty:
        return pd.DataFrame()
    return measures_of(front).set_index([front["concept"], front["method"]]).T.round(1)


def side_by_side(summary: pd.DataFrame) -> pd.DataFrame:
    """A table to read of `summarise`'s rows over all kinds, on the front: tower and measure down,
    SLUG, SLUG-R and their difference across, 'mean [low, high]', with the number of concepts.
    """
    if summary.empty:
        return pd.DataFrame()
    kept = summary[(summary["kind"] == "all") & (summary["layers"] == "front")]
    kept = kept[kept["low"].notna()]  # no interval, no row
    text = [f"{m:.1f} [{a:.1f}, {b:.1f}]" for m, a, b in kept[["mean", "low", "high"]].to_numpy()]
    keys = ["tower", "measure"]
    order = kept[keys].drop_duplicates()
    wide = kept.assign(text=text).pivot(index=keys, columns="method", values="text")
    wide["concepts"] = kept.groupby(keys)["n"].min()
    names = [name for name in (*ARMS, "SLUG-R minus SLUG") if name in wide]
    return wide.reindex(pd.MultiIndex.from_frame(order))[[*names, "concepts"]]


def measures_of(table: pd.DataFrame) -> pd.DataFrame:
    """What is averaged over concepts, a column each, in percent and points: FA@1 and FA@5 after,
    their worst wording, and the change of every group; the distance from the oracle in nats, where
    there is one.

    Of a style no FA@5 counts: it stands among seven, and the criterion is FA@1.
    """
    found = {}
    for k in (1, 5) if "fa1_after" in table else ():  # not where no layer forgot anything
        asked = (table["kind"] != "style") | (k == 1)
        found[f"FA@{k} after"] = (100 * table[f"fa{k}_after"]).where(asked)
        found[f"FA@{k} after, worst wording"] = (100 * table[f"fa{k}_after_worst"]).where(asked)
    for group in GROUPS:
        if f"{group}_after" in table:
            found[f"{group} change"] = change(table, group)
    for stage in ("before", "after") if "kl_after" in table else ():
        found[f"KL from the oracle {stage}"] = table[f"kl_{stage}"]
    return pd.DataFrame(found)


def change(table: pd.DataFrame, measure: str) -> pd.Series:
    """By how many points a measure changed."""
    return 100 * (table[f"{measure}_after"] - table[f"{measure}_before"])


def summarise(table: pd.DataFrame, measures_of: Callable = measures_of) -> pd.DataFrame:
    """Over concepts, from the table of `slugkit sweep`: both methods, and SLUG-R minus SLUG in
    pairs.

    One row for each tower, set of layers, method, kind of concept ("all" first) and measure (of
    `measures_of`; whose names end in one of BAD_IF_SMALL are worst where they are smallest), with
    the columns of `over_concepts`.
    """
    rows = []
    for (tower, layers), part in table.groupby(["tower", "layers"], sort=False):
        measured = measures_of(part)
        names = list(measured)
        measured[["concept", "kind"]] = part[["concept", "kind"]]
        by = {m: measured[part["method"] == m].set_index("concept") for m in ARMS}
        both = by["SLUG-R"][names] - by["SLUG"][names]
        by["SLUG-R minus SLUG"] = both.assign(kind=by["SLUG"]["kind"])
        for method, mine in by.items():
            for kind, some in [("all", mine), *mine.groupby("kind", sort=False)]:
                of = {"tower": tower, "layers": layers, "method": method, "kind": kind}
                for name in names:
                    if some[name].notna().any():
                        found = over_concepts(some[name], not name.endswith(BAD_IF_SMALL))
                        rows.append({**of, "measure": name, **found})
    return pd.DataFrame(rows, columns=SUMMARY)


def over_concepts(values: pd.Series, largest: bool = False) -> dict:
    """Mean, median, low and high (95 % bootstrap; NaN for fewer than five), worst, of (its concept)
    and n of one number a concept. largest: the worst is the largest, not the smallest.
    """
    values = values.dropna()
    enough = len(values) >= LEAST_FOR_AN_INTERVAL
    low, high = bootstrap_mean(values.to_numpy()) if enough else (np.nan, np.nan)
    worst = values.idxmax() if largest else values.idxmin()
    found = {"mean": values.mean(), "median": values.median(), "low": low, "high": high}
    return found | {"worst": values[worst], "of": worst, "n": len(values)}
