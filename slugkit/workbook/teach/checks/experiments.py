"""Checks of the tables that a reader's own experiments fill: their form, and the direction."""

from collections.abc import Callable

import pandas as pd

from slugkit.workbook.teach.checks.bench import Bench


def _table(function: Callable, columns: dict[str, str]) -> tuple[Bench, pd.DataFrame]:
    """The bench, and the reader's rows as a table. columns: name -> "text", "share" or
    "positive"; "share" is 0..1.
    """
    bench = Bench(function)
    rows = bench.call()
    bench.need(isinstance(rows, list) and rows, "no list of rows came back", "return a list.")
    right = all(isinstance(row, dict) and set(row) == set(columns) for row in rows)
    seen = f"a row has other keys than {', '.join(columns)}"
    bench.hold(right, seen, "each row is a dict with these keys.")
    for name, kind in columns.items():
        values = [row[name] for row in rows]
        if kind == "text":
            bench.hold(all(isinstance(x, str) and x for x in values), f"{name} is no text", name)
            continue
        numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in values)
        bench.need(numbers, f"{name} holds something that is no number", "return plain numbers.")
        low = all(x >= 0 if kind == "share" else x > 0 for x in values)
        high = kind != "share" or all(x <= 1 for x in values)
        bench.hold(low and high, f"{name} is out of range", f"{name} is a {kind}: not in percent?")
    return bench, pd.DataFrame(rows)


def batch_fronts(function: Callable) -> None:
    """Checks the table of experiment 3.3: rows with batch_size, noise, shared.

    noise: median standard error of the cosines; shared: share of the first row's front layers that
    are on this front too. Raises CheckFailed.
    """
    columns = {"batch_size": "positive", "noise": "positive", "shared": "share"}
    bench, table = _table(function, columns)
    look = "ask for each batch size once, two at least."
    fine = len(table) >= 2 and table["batch_size"].is_unique
    bench.hold(fine, "fewer than two different batch sizes were compared", look)
    look = "the first row is compared with itself: all of its front is shared."
    bench.hold(table["shared"].iloc[0] == 1, "the first row's `shared` is not 1", look)
    bench.done()


def two_criteria(function: Callable) -> None:
    """Checks the table of experiment 4.4: rows with concept, criterion, rho, kept.

    criterion: "fa1" or "fa5", both for every concept on one layer; kept: share of what must stay.
    Raises CheckFailed.
    """
    kinds = {"concept": "text", "criterion": "text", "rho": "positive", "kept": "share"}
    bench, table = _table(function, kinds)
    for concept, rows in table.groupby("concept"):
        asked = sorted(rows["criterion"])
        seen = f"{concept} has {', '.join(asked)}; fa1 and fa5 were expected"
        bench.hold(asked == ["fa1", "fa5"], seen, "one row for each criterion, and no other.")
        rho = rows.set_index("criterion")["rho"]
        seen = f"{concept} needs a longer step for fa1 than for fa5"
        look = "a name that is not among the first five is not first: were the rows swapped?"
        bench.hold(rho["fa5"] >= 0.98 * rho["fa1"], seen, look)
    bench.done()
