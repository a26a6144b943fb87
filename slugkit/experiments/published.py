"""The figures that the papers print, from data/paper/, and a run's own beside them, each marked
with whose it is.

Every row says where its figure was taken from; a cell that could not be verified is empty. All
accuracies here are in percent, as in the papers.
"""

from __future__ import annotations

import pandas as pd

from slugkit.base import SettingError, ShapeError, data_dir, look_for, require_choice
from slugkit.data import Exam, Source, StudioSource
from slugkit.evaluation.clip import answers
from slugkit.evaluation.statistics import bootstrap_mean
from slugkit.models import Clip
from slugkit.patch import Patch, applied
from slugkit.unlearning.concept import load_oracle

METRICS = {
    "fa1": "FA@1",
    "fa5": "FA@5",
    "ta_in1": "TA_IN@1",
    "ta_in5": "TA_IN@5",
    "ta_ca1": "TA_CA@1",
    "ta_ca5": "TA_CA@5",
    **{f"style_{name.lower()}": f"{name} (style)" for name in ("UA", "IRA", "CRA")},
    **{f"object_{name.lower()}": f"{name} (object)" for name in ("UA", "IRA", "CRA")},
    "fid": "FID",
}
"""Columns of the published tables -> the papers' names of the metrics."""
OF_EXAM = {
    ("target", "FA@1"): "FA@1",
    ("target", "FA@5"): "FA@5",
    ("people", "accuracy"): "TA_CA@1",
    ("objects", "accuracy"): "TA_IN@1",
}
"""Group and metric of an exam (`slugkit.evaluation.clip.evaluate_clip`) -> the paper's name."""
COLUMNS = ["method", "metric", "value", "low", "high", "n", "origin", "source"]


def names() -> list[str]:
    """The published tables, by name."""
    return sorted(path.stem for path in (data_dir() / "paper").glob("*.csv"))


def published(name: str) -> pd.DataFrame:
    """The table data/paper/NAME.csv; its column `source` says where each row comes from. Raises
    SettingError naming the nearest.
    """
    require_choice(name, names(), "The published table")
    return pd.read_csv(data_dir() / "paper" / f"{name}.csv")


def swept(source: Source, family: str, method: str = "SLUG") -> pd.DataFrame:
    """What `slugkit sweep` measured of several concepts, each forgotten on its own on the paper's
    layers: columns tower, measure, mean, low, high (95 %), worst, of (whose that is) and n.

    family: clip's is report, beside diffusion and vlm. Where no table was made, as for data other
    than the studio, one cell says so.
    """
    file = look_for(data_dir() / "studio" / f"{family}_concepts_summary.csv")
    if not isinstance(source, StudioSource) or not file.is_file():
        made = f"`slugkit sweep{'' if family == 'report' else ' --family ' + family}`"
        return pd.DataFrame({"no table": [f"{made} makes it, about the studio's concepts"]})
    table = pd.read_csv(file)
    mine = (table["kind"] == "all") & (table["method"] == method) & (table["layers"] == "front")
    columns = ["tower", "measure", "mean", "low", "high", "worst", "of", "n"]
    return table.loc[mine, columns].round(1).reset_index(drop=True)


def beside_llava(metrics: pd.DataFrame) -> pd.DataFrame:
    """How often the target's name is said, as published and in a run, means over people: columns
    origin, model, method, before, after (percent) and people.

    metrics: rows of the family vlm, as of `QuestionExam.metrics`.
    """
    theirs = published("llava_mean").rename(columns={"identities": "people"})
    theirs = theirs.pivot(index=["model", "people"], columns="stage", values="value").reset_index()
    mine = metrics[(metrics["metric"] == "right name") & (metrics["group"] == "target")]
    was = mine[mine["stage"] == "before"].set_index("concept")["value"]
    rows = [theirs.assign(origin="published", method="SLUG")]
    after = mine[mine["stage"] == "after"].groupby(["model", "method"], sort=False)
    for (model, method), part in after:
        ours = {"origin": "ours", "model": model, "method": method, "people": len(part)}
        ours["before"] = 100 * was[part["concept"]].mean()
        rows.append(pd.DataFrame([ours | {"after": 100 * part["value"].mean()}]))
    columns = ["origin", "model", "method", "before", "after", "people"]
    return pd.concat(rows, ignore_index=True)[columns].round(1)


def paper_rows(found: pd.DataFrame) -> pd.DataFrame:
    """A run's metric rows of the family clip under the paper's names: columns method, metric,
    value, low, high (percent) and n.

    found: rows as `evaluate_clip` gives them; other groups are left out. The method of the stage
    before is "original", the oracle's "never saw it". TA_CA@1 here is over pictures and without the
    target; `by_names` puts the paper's average over names in its place.
    """
    known = [(group, metric) in OF_EXAM for group, metric in zip(found["group"], found["metric"])]
    kept = found[known].reset_index(drop=True)
    percent = kept[["value", "low", "high"]] * 100
    called = kept["stage"].map({"before": "original", "oracle": "never saw it"})
    metric = [OF_EXAM[pair] for pair in zip(kept["group"], kept["metric"])]
    rows = percent.assign(n=kept["n"], method=called.fillna(kept["method"]), metric=metric)
    return rows[COLUMNS[:6]]


def mean_over_names(told: pd.DataFrame, among: list[str] | None = None) -> dict[str, float]:
    """TA_CA@1 as the paper averages it, over people: value, low, high (percent; 95 % bootstrap), n.

    told: columns true and answer, as `slugkit.evaluation.clip.answers(clip, exam, "people")` gives
    them. among: the names to average over, such as the 100 of `CelebA.frequent`; None takes all.
    Raises EmptySetError where none is left.
    """
    right = (told["true"] == told["answer"]).groupby(told["true"]).mean()
    if among is not None:
        right = right[right.index.isin(among)]
    low, high = bootstrap_mean(100 * right.to_numpy())
    return {"value": float(100 * right.mean()), "low": low, "high": high, "n": len(right)}


def by_names(
    rows: pd.DataFrame, told: dict[str, pd.DataFrame], among: list[str] | None = None
) -> pd.DataFrame:
    """The rows of `paper_rows` with the TA_CA@1 of `mean_over_names`.

    told: for each method in `rows` the answers to the people's pictures and, since the paper's 100
    names hold some targets, to the target's. among: as of `mean_over_names`. Raises ShapeError
    where the methods that have a TA_CA@1 are not those of `told`.
    """
    old = rows["metric"] == "TA_CA@1"
    if set(rows.loc[old, "method"]) != set(told):
        raise ShapeError(
            f"Answers of {sorted(told)} were given for the TA_CA@1 of"
            f" {sorted(set(rows.loc[old, 'method']))}; one table for each of these was expected."
        )
    means = [{"method": m, **mean_over_names(table, among)} for m, table in told.items()]
    added = pd.DataFrame(means).assign(metric="TA_CA@1")
    return pd.concat([rows[~old], added], ignore_index=True)


def beside_table1(
    clip: Clip, source: Source, exam: Exam, metrics: pd.DataFrame, patches: dict[str, Patch]
) -> pd.DataFrame:
    """Table 1 of the paper with a run's own rows: origin and method down, metrics across, percent.

    With a recipe of CelebA the TA_CA@1 is the paper's mean over names (`by_names`).

    Args:
        exam: the report exam.
        metrics: one row for each group, metric and method (`headline`), methods "SLUG text" and
            "SLUG vision".
        patches: tower -> edit.
    """
    ours, hundred = paper_rows(metrics), source.best_known("person")
    if hundred and source.examined_apart(exam.concept):

        def told(model: Clip) -> pd.DataFrame:
            people = (g for g, (d, _) in exam.groups().items() if d == "figures")
            people = [g for g in people if g in ("people", "target")]
            return pd.concat([answers(model, exam, g) for g in people])

        by_method = {"original": told(clip)}
        for tower, edit in patches.items():
            with applied(edit, clip.model):
                by_method[f"SLUG {tower}"] = told(clip)
        if (oracle := load_oracle(clip, exam.concept)) is not None:
            by_method["never saw it"] = told(oracle)
        ours = by_names(ours, by_method, hundred)
    kept = ["FA@1", "FA@5", "TA_IN@1", "TA_CA@1"]
    both = beside(ours, "table1_clip", kept)
    wide = both.pivot(index=["origin", "method"], columns="metric", values="value")
    return wide[kept].sort_index(ascending=False).round(2)


def beside(ours: pd.DataFrame, name: str, metrics: list[str] | None = None) -> pd.DataFrame:
    """A published table with our own figures under it, one row a figure, and the column origin:
    "published" or "ours".

    ours: as of `paper_rows`; low, high and n where they are known. name: a published table with a
    column for each metric, such as table1_clip. metrics: the papers' names to keep; None keeps
    those of the table. Raises SettingError for another table or metric, ShapeError where ours lacks
    a column.
    """
    table = published(name)
    columns = {column: METRICS[column] for column in table.columns if column in METRICS}
    if not columns or "method" not in table:
        raise SettingError(
            f"The published table {name!r} has no column for a metric of a method; one such as"
            " table1_clip was expected."
        )
    for metric in metrics or []:
        require_choice(metric, columns.values(), f"The metric of {name}")
    missing = [column for column in ("method", "metric", "value") if column not in ours]
    if missing:
        raise ShapeError(
            f"Our figures lack the columns {missing}; method, metric and value (percent) were"
            " expected. Pass them through paper_rows."
        )
    names = list(columns.values())
    theirs = table.rename(columns=columns).melt(["method", "source"], names, "metric")
    theirs = theirs.dropna(subset="value").assign(origin="published")
    mine = ours.assign(origin="ours", source="this run")
    both = pd.concat([theirs, mine], ignore_index=True).reindex(columns=COLUMNS)
    return both[both["metric"].isin(metrics or list(columns.values()))].reset_index(drop=True)
