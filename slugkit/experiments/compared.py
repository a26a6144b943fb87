"""What the table of all methods says over concepts: means, differences to SLUG, ranks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from slugkit.base import data_dir
from slugkit.data import Source, StudioSource
from slugkit.experiments.sweep import made_by, measures_of, over_concepts, weights_of
from slugkit.models import Clip

SUMMARY = ["method", "times", "measure", "mean", "low", "high", "worst", "of", "n"]
OTHERS = "others change"
"""Name of the measure that holds the other people, characters and objects together."""
NAMES = ("people", "characters", "objects")
FORGOTTEN = "forgotten on the search split"
"""Name of the share of concepts, in percent, of which the search found a state that forgets."""
LARGE_IS_BAD = ("FA@", "KL", "seconds", "pairs", "probes", "rho", "still shown", "drawn")
LARGE_IS_BAD += ("artifacts", "right name", "another name")
"""How measures begin whose largest value is the worst; of all others it is the smallest."""
RANKED = ("FA@5 after, worst wording", OTHERS, "neighbours change", "styles change")
"""Measures by which methods are ranked."""


def methods_table(clip: Clip, source: Source, folder: str | Path | None = None) -> pd.DataFrame:
    """What `slugkit sweep --methods` measured of this very model on the studio's concepts, all
    parts together; empty where there is nothing.
    """
    where = Path(folder or data_dir() / "studio" / "methods")
    files = sorted(where.glob("*x-seed*.csv")) if where.is_dir() else []
    if not files or clip.weights is None or not isinstance(source, StudioSource):
        return pd.DataFrame(columns=["concept", "tower", "method", "times", "seed"])
    table = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
    mine = table["weights"] == made_by(weights_of(clip), {})
    return table[mine].reset_index(drop=True)


def by_concept(table: pd.DataFrame) -> pd.DataFrame:
    """A row a method, budget and concept, the mean over seeds: the measures of
    `slugkit.experiments.sweep.measures_of`; OTHERS, the change of the other people, characters and
    objects together, each picture with one weight, in points (neighbours are among them, styles
    stand apart: they are asked of the same pictures once more); how far from the oracle; and what
    it took, seconds those of the first seed alone, since other seeds may have run elsewhere.
    """
    found = measures_of(table)
    groups = [group for group in NAMES if f"{group}_after" in table]
    sizes = table[[f"{group}_n" for group in groups]].fillna(0).to_numpy()
    changes = found[[f"{group} change" for group in groups]].fillna(0).to_numpy()
    found[OTHERS] = (changes * sizes).sum(1) / sizes.sum(1)
    found[FORGOTTEN] = 100.0 * table["forgotten"]
    for name in ("pairs", "probes"):
        found[name] = table[name]
    found["rho, %"] = 100 * table["rho"]
    found["seconds"] = table["seconds"].where(table["seed"] == table["seed"].min())
    keys = [table[name] for name in ("method", "times", "concept")]
    return found.groupby(keys, sort=False).mean()


def oracle_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The oracles as one more method, of the concepts that have one: the same columns, with what
    the oracle does in the place of what the edit does.
    """
    if "fa1_oracle" not in table:
        return table.head(0)
    known = table[table["fa1_oracle"].notna()].drop_duplicates("concept")
    theirs = [c for c in known if c.split("_")[1:2] == ["oracle"]]
    stands = {c.replace("_oracle", "_after"): known[c] for c in theirs}
    nothing = dict.fromkeys(["seconds", "pairs", "probes", "rho"], float("nan"))
    return known.assign(**stands, method="oracle", times=0, kl_after=0.0, forgotten=True, **nothing)


def near_oracle(table: pd.DataFrame) -> pd.DataFrame:
    """How far from the oracle each method ends, over the concepts that have one and that it has
    forgotten: KL before and after in nats, how often both give the same first answer, the change of
    the others in points, and concepts. Empty where there is no oracle.
    """
    if "kl_after" not in table:
        return pd.DataFrame()
    mine = table[table["kl_after"].notna() & table["forgotten"]]
    lost = by_concept(mine)[OTHERS].rename("others change").reset_index()
    said = mine.groupby(["method", "times", "concept"], sort=False)[
        ["kl_before", "kl_after", "same_answer_after"]
    ].mean()
    said = said.reset_index().merge(lost, on=["method", "times", "concept"])
    found = said.drop(columns="concept").groupby(["method", "times"]).mean()
    found["concepts"] = said.groupby(["method", "times"])["concept"].nunique()
    return found.sort_values("kl_after")


def over_all(each: pd.DataFrame) -> pd.DataFrame:
    """Over concepts, of `by_concept`: a row a method, budget and measure, with mean, 95 % bootstrap
    interval over concepts (from five up), the worst and whose it is, and n.
    """
    rows = []
    for (method, times), part in each.groupby(level=["method", "times"], sort=False):
        part = part.droplevel(["method", "times"])
        for name in part:
            if part[name].notna().any():
                said = over_concepts(part[name], name.startswith(LARGE_IS_BAD))
                rows.append({"method": method, "times": times, "measure": name, **said})
    return pd.DataFrame(rows, columns=SUMMARY)


def beside_slug(each: pd.DataFrame, method: str = "SLUG") -> pd.DataFrame:
    """As `over_all`, of the differences to a method at its own budget, concept by concept."""
    base = each.xs((method, 1), level=["method", "times"])
    apart = each - base.reindex(each.index.get_level_values("concept")).to_numpy()
    own = [key[:2] == (method, 1) for key in apart.index]
    return over_all(apart[[not mine for mine in own]])


def wide(summary: pd.DataFrame, measures: list[str]) -> pd.DataFrame:
    """A table to read: methods down, measures across, 'mean [low, high]', and the number of
    concepts.
    """
    kept = summary[summary["measure"].isin(measures)]
    text = [
        f"{m:.1f}" if pd.isna(a) else f"{m:.1f} [{a:.1f}, {b:.1f}]"
        for m, a, b in kept[["mean", "low", "high"]].to_numpy()
    ]
    keys = ["method", "times"]
    found = kept.assign(text=text).pivot(index=keys, columns="measure", values="text")
    found = found[[name for name in measures if name in found]]
    found["concepts"] = kept.groupby(keys)["n"].max()
    order = kept[keys].drop_duplicates()
    return found.reindex(pd.MultiIndex.from_frame(order)).rename_axis(columns=None).fillna("")


def ranked(summary: pd.DataFrame, measures: tuple[str, ...] = RANKED) -> pd.DataFrame:
    """The rank of each method's mean by each measure, 1 the best, ties alike, and their mean; the
    best first. Not ranked are the oracle and what leaves more than a tenth of the concepts
    unforgotten on the search split: a method that forgets nothing keeps everything.
    """
    means = summary.pivot(index=["method", "times"], columns="measure", values="mean")
    means = means[(means[FORGOTTEN] >= 90) & (means.index.get_level_values("method") != "oracle")]
    found = means[[name for name in measures if name in means]].round(6)
    bad = {name: name.startswith(LARGE_IS_BAD) for name in found}
    found = found.apply(lambda column: column.rank(ascending=bad[column.name], method="min"))
    found["mean rank"] = found.mean(axis=1).round(1)
    return found.sort_values("mean rank", kind="stable").rename_axis(columns=None)
