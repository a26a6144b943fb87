"""Intervals: Wilson for one accuracy, bootstrap over concepts for the mean of a method; and the one
table of metrics.
"""

import math
from statistics import NormalDist

import numpy as np

from slugkit.base import EmptySetError, SettingError, ShapeError

KEYS = ["family", "model", "concept", "method", "stage", "group", "metric", "wording", "split"]
COLUMNS = [*KEYS, "value", "low", "high", "n"]
"""Columns of a run's one table of metrics; KEYS tell its rows apart."""
LEAST_FOR_AN_INTERVAL = 5
"""Concepts, or wordings, of which an interval of their mean is given at least."""
BOUNDS = [0.5 - 0.95 / 2, 0.5 + 0.95 / 2]
"""Quantiles of every interval, of 95 %."""
MEAN, WORST = "mean", "worst"
"""What the column `wording` says of a mean over wordings, and of the worst of them."""


def wilson(k, n):
    """95 % Wilson score interval (low, high) of a share k / n, 0..1 (E. B. Wilson, J. Am. Stat.
    Assoc. 22 (1927) 209); whole numbers or arrays of them, broadcast together.

    Raises EmptySetError (n is 0), SettingError (k out of range, not whole).
    """
    hits, total = np.broadcast_arrays(np.asarray(k, dtype=float), np.asarray(n, dtype=float))
    if (total == 0).any():
        raise EmptySetError("an accuracy over 0 pictures; at least one was expected.")
    whole = (hits == np.floor(hits)) & (total == np.floor(total))
    if not np.all(whole & (hits >= 0) & (hits <= total)):
        raise SettingError(
            f"{k} successes out of {n}; whole numbers with 0 <= successes <= total were expected,"
            " not shares or percentages."
        )
    z = NormalDist().inv_cdf(BOUNDS[1])
    share, scale = hits / total, 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = np.where(hits == 0, 0.0, np.clip(middle - half, 0.0, 1.0))
    high = np.where(hits == total, 1.0, np.clip(middle + half, 0.0, 1.0))
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def share(hits) -> dict:
    """value (0..1), low, high (Wilson 95 %) and n of a list of true and false.

    Raises EmptySetError.
    """
    hits = np.asarray(hits, bool)
    low, high = wilson(int(hits.sum()), len(hits))
    return {"value": float(hits.mean()), "low": low, "high": high, "n": len(hits)}


def over_wordings(hits) -> dict:
    """value (0..1), low, high and n of right answers in several wordings: their mean.

    hits: (wordings, n) of true and false, the same n pictures in every wording. The interval is the
    wider of two on either side: Wilson's over the pictures, and, from five wordings up, the 95 %
    bootstrap interval over the wordings, which for an edit of the text tower are the sample. Raises
    EmptySetError.
    """
    hits = np.atleast_2d(np.asarray(hits, bool))
    found, each = share(hits[0]), hits.mean(1)
    value, n = float(each.mean()), found["n"]
    low, high = wilson(round(value * n), n)
    if len(hits) >= LEAST_FOR_AN_INTERVAL:
        less, more = bootstrap_mean(each)
        low, high = min(low, less), max(high, more)
    return {"value": value, "low": min(low, value), "high": max(high, value), "n": n}


def headline(metrics):
    """The rows of a table of metrics that are no single wording's: means over wordings, and scores
    without.
    """
    return metrics[metrics["wording"].isin(["", MEAN])]


def report_rows(metrics):
    """The rows of `headline`, and for each FA@k the wording in which the target is recognised most,
    as a metric of its own: "FA@k, worst wording".
    """
    import pandas as pd  # the runner reads this module and needs no tables

    worst = metrics[(metrics["wording"] == WORST) & (metrics["group"] == "target")]
    worst = worst.assign(metric=worst["metric"] + ", worst wording")
    return pd.concat([headline(metrics), worst], ignore_index=True)


def above_chance(hits: int, n: int, classes: int) -> bool:
    """Whether `hits` right answers out of n lie above chance, one in so many classes, with their
    whole 95 % Wilson interval.
    """
    return n > 0 and wilson(hits, n)[0] > 1 / max(classes, 1)


def tidy(found, family: str, concept: str, stage: str, method: str = "SLUG", model: str = "studio"):
    """Rows of scores on the report split with the columns of a run's one table.

    found: a pandas table with the columns group, metric, value, low, high, n. family: clip,
    diffusion or vlm. stage: before, after or oracle.
    """
    whose = {"family": family, "model": model, "concept": concept, "method": method}
    wording = found["wording"] if "wording" in found else ""
    return found.assign(**whose, stage=stage, wording=wording, split="report")[COLUMNS]


def bootstrap_mean(values):
    """95 % percentile bootstrap interval (low, high) of a mean over concepts (B. Efron, Ann. Stat.
    7 (1979) 1), of 10,000 draws that are the same every time.

    values: one number per concept, (concepts,), or several measures at once, (concepts, measures):
    concepts are drawn with replacement, whole rows at a time. For a single concept (nan, nan).
    Raises EmptySetError (no concept), ShapeError, SettingError (nan or inf).
    """
    table = np.asarray(values, dtype=float)
    if table.ndim not in (1, 2):
        raise ShapeError(
            f"values have the shape {table.shape}; (concepts,) or (concepts, measures) was"
            " expected."
        )
    concepts = len(table)
    if concepts == 0:
        raise EmptySetError("a mean over 0 concepts; at least one was expected.")
    if not np.isfinite(table).all():
        raise SettingError(
            f"{np.sum(~np.isfinite(table))} values are nan or infinite; finite numbers were"
            " expected. Drop concepts that were not measured."
        )
    if concepts == 1:
        low = high = np.full(table.shape[1:], math.nan)
    else:
        each = np.full(concepts, 1 / concepts)
        counts = np.random.default_rng(0).multinomial(concepts, each, size=10_000)
        low, high = np.quantile(counts @ table / concepts, BOUNDS, axis=0)
    return (float(low), float(high)) if table.ndim == 1 else (low, high)
