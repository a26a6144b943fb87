"""Checks of the experiments of notebooks 05 and 09: the reader's own numbers, for form and
direction.
"""

from slugkit.workbook.teach.checks.bench import Bench


def _rows(bench: Bench, key: str) -> list[dict]:
    """The reader's table: two or more dictionaries that differ in `key`."""
    rows = bench.call()
    listed = isinstance(rows, (list, tuple)) and all(isinstance(row, dict) for row in rows)
    seen = f"a {type(rows).__name__} came back; a list of dictionaries was expected"
    bench.need(listed, seen, "one dictionary a row, in a list.")
    keys = [row.get(key) for row in rows]
    seen = f"rows with {key} {keys} came back; two or more, each once, were expected"
    bench.hold(len(set(keys)) == len(keys) >= 2 and None not in keys, seen, f"give every {key}.")
    return list(rows)


def _shares(bench: Bench, row: dict, name: str, count: int) -> list[float]:
    """One or several shares of a row."""
    given = row.get(name)
    values = list(given) if isinstance(given, (tuple, list)) else [given]
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    expected = "(before, after)" if count == 2 else "one share"
    seen = f"{name} is {given!r}; {expected} was expected"
    bench.need(len(values) == count and numbers, seen, "copy the numbers from the report table.")
    seen = f"{name} is {given!r}; shares of 0 to 1 were expected"
    bench.need(all(0 <= v <= 1 for v in values), seen, "is it in percent? Divide by 100.")
    return [float(v) for v in values]


def two_concepts(function) -> None:
    """Checks two_concepts() -> one row a concept: concept; FA@5, neighbours and people as (before,
    after), shares 0..1; expected and seen, "more" or "less": what its neighbours lose, compared
    with the other row's. Raises CheckFailed.
    """
    bench = Bench(function)
    rows = _rows(bench, "concept")
    bench.need(len(rows) == 2, f"{len(rows)} rows came back; two were expected", "two concepts.")
    losses = []
    for row in rows:
        before, after = _shares(bench, row, "FA@5", 2)
        seen = f"FA@5 of {row['concept']!r} goes from {before} to {after}; it was to fall"
        bench.hold(after < before, seen, "are before and after swapped, or was nothing forgotten?")
        first, last = _shares(bench, row, "neighbours", 2)
        _shares(bench, row, "people", 2)
        losses.append(first - last)
    for row, mine, other in zip(rows, losses, losses[::-1]):
        for word in ("expected", "seen"):
            seen = f"{word} is {row.get(word)!r}; 'more' or 'less' was expected"
            bench.need(row.get(word) in ("more", "less"), seen, "compare with the other row.")
        right = ("more", "less") if abs(mine - other) < 1e-9 else (("less", "more")[mine > other],)
        seen = f"{row['concept']!r}: {row['seen']!r} was seen, its neighbours lose {mine:.3f}"
        seen += f" and the other's {other:.3f}"
        look = "a loss is before minus after, of the neighbours."
        bench.hold(row["seen"] in right, seen, look)
    bench.done()


def dampings(function) -> None:
    """Checks dampings() -> one row a damping: damping, rho (both above 0), and FA@5, neighbours
    and people after the edit, shares 0..1, and the layer. Raises CheckFailed.

    The length is relative to the weight; with more damping the direction turns to g_f, so that on
    one and the same layer a shorter step forgets: rho does not grow with it.
    """
    bench = Bench(function)
    rows = _rows(bench, "damping")
    for row in rows:
        for name in ("damping", "rho"):
            value = row.get(name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            seen = f"{name} is {value!r}; a number above 0 was expected"
            bench.need(number and value > 0, seen, "0 would ask for the inverse of A alone.")
        for name in ("FA@5", "neighbours", "people"):
            _shares(bench, row, name, 1)
        seen = f"layer is {row.get('layer')!r}; its name was expected"
        bench.need(isinstance(row.get("layer"), str), seen, "steps compare on one layer only.")
        seen = f"FA@5 is {row['FA@5']} at damping {row['damping']}; the step was to forget"
        bench.hold(row["FA@5"] <= 0.2, seen, "compare steps that forget; is it the column after?")
    rows = sorted(rows, key=lambda row: row["damping"])
    least, most = rows[0], rows[-1]
    wide = most["damping"] >= 10 * least["damping"]
    seen = f"the dampings are {least['damping']} to {most['damping']}; a factor of 10 was expected"
    bench.hold(wide, seen, "neighbouring values differ by chance alone.")
    seen = f"rho is {least['rho']} at {least['damping']} and {most['rho']} at {most['damping']}"
    look = "were two rows swapped? More damping turns d to g_f, and its step is shorter."
    elsewhere = most["layer"] != least["layer"]
    bench.hold(elsewhere or most["rho"] <= least["rho"], seen, look)
    bench.done()
