"""The check of notebook 06's experiment: what forgetting another kind of concept costs."""

from slugkit.workbook.teach.checks.bench import Bench

PAYERS = ("neighbours", "IRA", "CRA", "nobody")
MEASURES = ("UA", "neighbours", "IRA", "CRA")
POINT = 0.01
"""A loss up to this share is nobody's."""


def _shares(bench: Bench, row: dict, name: str) -> tuple[float, float]:
    """Before and after of one measure."""
    ends = row.get(name)
    pair = isinstance(ends, (tuple, list)) and len(ends) == 2
    seen = f"{name} of {row['concept']!r} is {ends!r}; (before, after) was expected"
    bench.need(pair, seen, "two numbers, from the table of UA, IRA and CRA.")
    low, high = sorted(map(float, ends))
    seen = f"{name} of {row['concept']!r} is {ends!r}; shares of 0 to 1 were expected"
    bench.need(0 <= low <= high <= 1, seen, "is it in percent? Divide by 100.")
    return float(ends[0]), float(ends[1])


def other_kinds(function) -> None:
    """Checks other_kinds() -> one row a concept, each a dictionary: concept, predicted and paid
    (one of PAYERS), and UA, neighbours, IRA and CRA as (before, after), shares 0..1.

    The numbers are the reader's own; what is checked is that they are complete, that forgetting
    raised UA, and that `paid` names the group with the largest loss. Raises CheckFailed.
    """
    bench = Bench(function)
    rows = bench.call()
    listed = isinstance(rows, (list, tuple)) and all(isinstance(row, dict) for row in rows)
    seen = f"a {type(rows).__name__} came back; a list of dictionaries was expected"
    bench.need(listed, seen, "one dictionary a concept, in a list.")
    names = [row.get("concept") for row in rows]
    seen = f"rows about {names} came back; two or more concepts, each once, were expected"
    look = "an object and a style; a person is what this notebook did."
    bench.hold(len(set(names)) == len(names) >= 2 and all(names), seen, look)
    for row in rows:
        ends = {name: _shares(bench, row, name) for name in MEASURES}
        before, after = ends.pop("UA")
        seen = f"UA of {row['concept']!r} goes from {before} to {after}; it was to rise"
        bench.hold(after > before, seen, "are before and after swapped, or was nothing forgotten?")
        for word in ("predicted", "paid"):
            seen = (
                f"{word} of {row['concept']!r} is {row.get(word)!r}; one of {PAYERS} was expected"
            )
            bench.need(row.get(word) in PAYERS, seen, "the group that loses most.")
        losses = {name: first - last for name, (first, last) in ends.items()}
        most = max(losses.values())
        right = (
            [n for n, loss in losses.items() if loss >= most - 1e-9] if most > POINT + 1e-9 else []
        )
        seen = f"{row['paid']!r} is said to pay for {row['concept']!r}"
        seen += f"; by its numbers {' or '.join(right) or 'nobody'} loses most"
        look = "a loss is before minus after; one point or less is nobody's."
        bench.hold(row["paid"] in (right or ["nobody"]), seen, look)
    bench.done()
