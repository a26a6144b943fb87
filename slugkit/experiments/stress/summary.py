"""What the table of stresses says over people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import data_dir
from slugkit.data import Source, StudioSource
from slugkit.evaluation.statistics import LEAST_FOR_AN_INTERVAL, bootstrap_mean
from slugkit.experiments.sweep import made_by, weights_of
from slugkit.models import Clip

KEYS = ["stress", "setting", "steps", "tower", "name"]
"""What tells the rows about one concept apart."""
METRICS = ["named", "FA@1", "FA@5", "FA@5, worst wording", "others right", "others taken for it"]
METRICS += ["strangers taken for it", "shown", "recognised", "told from strangers", "AUC"]
METRICS += ["found at 1 % false"]
"""Columns of the table that hold a measure, in percent."""
SUMMARY = [*KEYS, "metric", "mean", "low", "high", "people"]
UNEDITED, ORACLE = "unedited", "oracle"
"""Names of the two models that no method made."""
PLAIN = ("other words", "report wordings")
"""The stress and the setting that are none: what the report asks."""
HEADLINE = {
    "a prompt that is looked for": "told from strangers",
    "membership": "AUC",
    "probes on features": "FA@1",
}
"""The measure by which a stress is summed up, where it is not FA@5."""
MADE_UP = "made-up names"
CONTROLS = (MADE_UP, "vectors, for a stranger", "as it is", PLAIN[1])
"""Settings that are no stress."""
FEATURES = "probes on features"
"""A stress that an edit of the text tower cannot change, since pictures do not pass it."""
DAMAGE, HOLDS, BACK = -10, 10, 50
"""Percent of the way back below which an edit is worse than never having known the concept; up to
which it holds; and above which it comes back."""
NAMES = ("misspelt", "first name", "last name")
"""Settings that are measured by what a made-up name reaches in the same model."""
LEAST_APART = 10.0
"""Points by which the unedited model and the oracle must differ, or a stress tells nothing."""


def stress_table(clip: Clip, source: Source, file: str | Path | None = None) -> pd.DataFrame:
    """What `slugkit sweep --stress` measured of this very model, on the studio's people or into a
    file of one's own; empty where there is nothing.
    """
    path = Path(file) if file else data_dir() / "studio" / "stress.csv"
    own = file is not None or isinstance(source, StudioSource)
    if not path.is_file() or clip.weights is None or not own:
        return pd.DataFrame(columns=["concept", *KEYS, *METRICS, "n"])
    table = pd.read_csv(path).fillna({"tower": "", "setting": ""})
    made = table["weights"] if file is None else table["weights"].str.split(", ").str[0]
    return table[made == made_by(weights_of(clip), {})].reset_index(drop=True)


def over_people(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each of KEYS and measure with the mean over concepts, its 95 % bootstrap interval
    (from five up), and how many they are.
    """
    metrics = [name for name in METRICS if name in table]
    long = table.melt([*KEYS, "concept"], metrics, "metric", "value").dropna(subset="value")
    rows = []
    for key, values in long.groupby([*KEYS, "metric"], sort=False)["value"]:
        enough = len(values) >= LEAST_FOR_AN_INTERVAL
        low, high = bootstrap_mean(values.to_numpy()) if enough else (np.nan, np.nan)
        rows.append((*key, values.mean(), low, high, len(values)))
    return pd.DataFrame(rows, columns=SUMMARY)


def wide(summary: pd.DataFrame, stress: str, metrics: list[str]) -> pd.DataFrame:
    """A table to read of one stress: the models down, by the tower of their edit, with the number
    of people; settings and measures across, 'mean [low, high]'.
    """
    kept = summary[(summary["stress"] == stress) & summary["metric"].isin(metrics)]
    kept = kept.assign(people=kept.groupby(["tower", "name"])["people"].transform("max"))
    text = [
        f"{m:.1f}" if pd.isna(a) else f"{m:.1f} [{a:.1f}, {b:.1f}]"
        for m, a, b in kept[["mean", "low", "high"]].to_numpy()
    ]
    down, across = ["tower", "name", "people"], ["setting", "metric"]
    if kept["steps"].nunique() > 1:
        across.insert(1, "steps")
    found = kept.assign(text=text).pivot(index=down, columns=across, values="text").fillna("")
    rows = pd.MultiIndex.from_frame(kept[down].drop_duplicates())
    place = {name: k for k, name in enumerate([*kept["setting"].unique(), *metrics])}
    columns = kept[across].drop_duplicates()
    columns = columns.sort_values(across, key=lambda c: c.map(lambda x: place.get(x, x)))
    return found.reindex(rows)[pd.MultiIndex.from_frame(columns)]


def _above_made_up(table: pd.DataFrame) -> pd.DataFrame:
    """The table with FA@k of NAMES as points above that of made-up names, 0 where it is below."""
    keys = ["concept", "tower", "name"]
    metrics = [name for name in METRICS if name.startswith("FA@") and name in table]
    control = table[table["setting"] == MADE_UP].set_index(keys)[metrics]
    names, table = table["setting"].isin(NAMES), table.copy()
    places = pd.MultiIndex.from_frame(table.loc[names, keys])
    less = control.reindex(places).fillna(0).to_numpy()
    table.loc[names, metrics] = (table.loc[names, metrics].to_numpy() - less).clip(0)
    return table


def way_back(table: pd.DataFrame) -> pd.DataFrame:
    """How far each stress brings each edit back, in percent of the way from the oracle to the
    unedited model under the same stress: (edited - oracle) / (unedited - oracle), of means over the
    concepts that have an oracle.

    0: as if it had never been learned; 100: as if nothing had been edited. Of NAMES the points
    above what a made-up name reaches count. Empty where the two ends lie less than LEAST_APART
    points apart, since the stress then tells nothing of an edit, and of FEATURES for an edit of the
    text tower. A row a stress and setting, after the last step; columns: measure, both ends in
    percent, and "method, tower" for each edit.
    """
    table = _above_made_up(table)
    known = table.loc[table["name"] == ORACLE, "concept"].unique()
    kept, rows = table[table["concept"].isin(known)], []
    plain = kept[(kept["stress"] == PLAIN[0]) & (kept["setting"] == PLAIN[1])]
    kept = kept[~kept["setting"].isin(CONTROLS)]
    for (stress, setting), part in kept.groupby(["stress", "setting"], sort=False):
        last = part[part["steps"] == part["steps"].max()]
        metric = HEADLINE.get(stress, "FA@5")
        both = last if set(last["name"]) >= {UNEDITED, ORACLE} else plain
        top, bottom = (both.loc[both["name"] == name, metric].mean() for name in (UNEDITED, ORACLE))
        said = f"{metric} above a made-up name" if setting in NAMES else metric
        row = {"stress": stress, "setting": setting, "measure": said}
        row |= {UNEDITED: top, ORACLE: bottom}
        for (tower, name), values in last.groupby(["tower", "name"], sort=False)[metric]:
            if tower:
                tells = top - bottom >= LEAST_APART and (stress, tower) != (FEATURES, "text")
                apart = top - bottom if tells else np.nan
                row[f"{name}, {tower}"] = 100 * (values.mean() - bottom) / apart
        rows.append(row)
    return pd.DataFrame(rows)


def verdict(share: float) -> str:
    """A share of the way back in a word."""
    if np.isnan(share):
        return "tells nothing"
    if share < DAMAGE:
        return "below the oracle"
    return "holds" if share <= HOLDS else "comes back in part" if share <= BACK else "comes back"


def verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """The `way_back` in words, where all concepts that have an oracle agree, else "differs"; those
    about whom a stress tells nothing are not asked, and nobody is where it tells nothing over all.
    Of FEATURES an edit of the text tower is "as unedited".
    """
    known = table.loc[table["name"] == ORACLE, "concept"].unique()
    each = [way_back(table[table["concept"] == concept]) for concept in known]
    if not each:
        return pd.DataFrame()
    words = pd.concat([one.set_index(["stress", "setting"]) for one in each])
    edits = [name for name in words if name.endswith((", text", ", vision"))]
    words = words[edits].map(verdict)

    def agreed(said: pd.Series) -> str:
        told = set(said) - {"tells nothing"}
        return "differs" if len(told) > 1 else next(iter(told), "tells nothing")

    found = words.groupby(level=["stress", "setting"], sort=False).agg(agreed)
    over_all = way_back(table).set_index(["stress", "setting"])[edits].reindex(found.index)
    found = found.mask(over_all.isna(), "tells nothing")
    for name in edits:
        if name.endswith(", text"):
            found.loc[found.index.get_level_values("stress") == FEATURES, name] = "as unedited"
    return found
