"""The checks of the experiments of notebooks 06 and 07: what forgetting another concept costs."""

from slugkit.workbook.teach.checks.bench import Bench

POINT = 0.01
"""A loss up to this share is nobody's."""


def _shares(bench: Bench, row: dict, name: str) -> tuple[float, float]:
    """Before and after of one measure."""
    ends = row.get(name)
    pair = isinstance(ends, (tuple, list)) and len(ends) == 2
    seen = f"{name} of {row['concept']!r} is {ends!r}; (before, after) was expected"
    bench.need(pair, seen, "two numbers, from the table before and after.")
    low, high = sorted(map(float, ends))
    seen = f"{name} of {row['concept']!r} is {ends!r}; shares of 0 to 1 were expected"
    bench.need(0 <= low <= high <= 1, seen, "is it in percent? Divide by 100.")
    return float(ends[0]), float(ends[1])


def _paid(bench: Bench, row: dict, others: tuple[str, ...]) -> None:
    """Check predicted and paid of a row against its own numbers for the others."""
    ends = {name: _shares(bench, row, name) for name in others}
    payers = (*others, "nobody")
    for word in ("predicted", "paid"):
        seen = f"{word} of {row['concept']!r} is {row.get(word)!r}; one of {payers} was expected"
        bench.need(row.get(word) in payers, seen, "the group that loses most.")
    losses = {name: first - last for name, (first, last) in ends.items()}
    most = max(losses.values())
    right = [n for n, loss in losses.items() if loss >= most - 1e-9] if most > POINT + 1e-9 else []
    seen = f"{row['paid']!r} is said to pay for {row['concept']!r}"
    seen += f"; by its numbers {' or '.join(right) or 'nobody'} loses most"
    look = "a loss is before minus after; one point or less is nobody's."
    bench.hold(row["paid"] in (right or ["nobody"]), seen, look)


def _experiment(function, target: str, rises: bool, others: tuple[str, ...], whom: str) -> None:
    """Check a table of concepts: complete, the target's measure moved, and who paid."""
    bench = Bench(function)
    rows = bench.call()
    listed = isinstance(rows, (list, tuple)) and all(isinstance(row, dict) for row in rows)
    seen = f"a {type(rows).__name__} came back; a list of dictionaries was expected"
    bench.need(listed, seen, "one dictionary a concept, in a list.")
    names = [row.get("concept") for row in rows]
    seen = f"rows about {names} came back; two or more concepts, each once, were expected"
    bench.hold(len(set(names)) == len(names) >= 2 and all(names), seen, whom)
    for row in rows:
        before, after = _shares(bench, row, target)
        seen = f"{target} of {row['concept']!r} goes from {before} to {after}; it was to "
        seen += "rise" if rises else "fall"
        look = "are before and after swapped, or was nothing forgotten?"
        bench.hold(after > before if rises else after < before, seen, look)
        _paid(bench, row, others)
    bench.done()


def other_kinds(function) -> None:
    """Checks other_kinds() -> one row a concept, each a dictionary: concept, predicted and paid
    (neighbours, IRA, CRA or nobody), and UA, neighbours, IRA and CRA as (before, after), shares
    0..1.

    The numbers are the reader's own; what is checked is that they are complete, that forgetting
    raised UA, and that `paid` names the group with the largest loss. Raises CheckFailed.
    """
    whom = "an object and a style; a person is what this notebook did."
    _experiment(function, "UA", True, ("neighbours", "IRA", "CRA"), whom)


def another_person(function) -> None:
    """Checks another_person() -> one row a person, each a dictionary: concept, predicted and paid
    (neighbours, people, battery or nobody), and right name (the target's), neighbours, people and
    battery as (before, after), shares 0..1.

    The numbers are the reader's own; what is checked is that they are complete, that the target
    lost its name, and that `paid` names the group with the largest loss. Raises CheckFailed.
    """
    whom = "two people who were not forgotten above."
    _experiment(function, "right name", False, ("neighbours", "people", "battery"), whom)
