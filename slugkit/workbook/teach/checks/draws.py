"""Checks of the experiments' tables: their form, and the direction that must hold."""

import pandas as pd

from slugkit.base import CheckFailed


def _columns(table, columns: list[str], key: str) -> pd.DataFrame:
    """The table with its rows in the order of `key`; CheckFailed where its form is wrong."""
    table = pd.DataFrame(table() if callable(table) else table)
    if missing := [name for name in columns if name not in table]:
        raise CheckFailed(f"The table lacks {missing}; the columns {columns} were expected.")
    values = table[columns].apply(pd.to_numeric, errors="coerce")
    if values.isna().any(axis=None):
        raise CheckFailed("A cell of the table is empty or no number; fill every row you measured.")
    if values[key].nunique() < 2 or values[key].duplicated().any():
        raise CheckFailed(f"{key} needs two different values or more, each in one row.")
    return values.sort_values(key)


def _hold(ok: bool, seen: str, look: str) -> None:
    if not ok:
        raise CheckFailed(f"{seen}. Look here: {look}")


def retain_size_table(table) -> None:
    """Checks the experiment of notebook 01: columns size, classes and neighbour_pairs."""
    found = _columns(table, ["size", "classes", "neighbour_pairs"], "size")
    inside = (found["neighbour_pairs"] >= 0) & (found["neighbour_pairs"] <= found["size"])
    look = "count the rows whose concept is a neighbour, not their captions' letters."
    _hold(inside.all(), "neighbour_pairs is not between 0 and size", look)
    few = (found["classes"] >= 1) & (found["classes"] <= found["size"])
    _hold(few.all(), "classes is not between 1 and size", "count distinct concepts.")
    first, last = found.iloc[0], found.iloc[-1]
    look = "a larger draw of the same data shows at least as many; is size the retain set's?"
    _hold(last["classes"] >= first["classes"], "the largest set shows fewer classes", look)
    look = "every pair is as likely to be drawn, so their number grows with the size."
    grows = last["neighbour_pairs"] >= first["neighbour_pairs"]
    _hold(grows, "the largest set shows the neighbours less often", look)
    print("4 checks passed")


def batch_size_table(table) -> None:
    """Checks the experiment of notebook 02: columns batch_size, loss and cosine, the cosine of the
    retain gradient with that of the largest batch.
    """
    found = _columns(table, ["batch_size", "loss", "cosine"], "batch_size")
    _hold((found["batch_size"] >= 2).all(), "a batch has one pair", "InfoNCE needs two or more.")
    _hold((found["loss"] >= 0).all(), "a loss is negative", "InfoNCE is never below 0.")
    bounded = found["cosine"].abs().max() <= 1 + 1e-6
    _hold(bounded, "a cosine is outside -1..1", "divide by both norms.")
    look = "compare with the largest batch, over the same pairs; its own cosine is 1."
    _hold(abs(found["cosine"].iloc[-1] - 1) < 1e-3, "the largest batch is not at cosine 1", look)
    look = "more wrong captions make it harder to find the right one."
    grows = found["loss"].iloc[-1] > found["loss"].iloc[0]
    _hold(grows, "the loss of the largest batch is not the larger one", look)
    print("5 checks passed")
