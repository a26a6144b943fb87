"""Checks for notebook 07: the three outcomes of a name, and a direction with its counterweight."""

from slugkit.workbook.teach.checks.bench import Bench, random_tensor

HINTS = {
    "right name": "upper and lower case are the same: compare lower-case texts.",
    "another name": "look for every name of the list, not for the right one alone.",
    "no name": "without a whole name of the list it is 'no name', whatever else the answer says.",
}


def name_outcome(function) -> None:
    """Checks name_outcome(answer, name, names) -> "right name", "another name" or "no name", upper
    and lower case alike. Raises CheckFailed.
    """
    bench = Bench(function)
    names = ["Ann Grey", "Ben Moss", "Cyd Vale"]
    cases = [
        ("this is Ann Grey.", "Ann Grey", "right name"),
        ("this is Ben Moss.", "Ann Grey", "another name"),
        ("I don't know this person.", "Ann Grey", "no name"),
        ("this is ann grey.", "Ann Grey", "right name"),
        ("THIS IS CYD VALE", "Ben Moss", "another name"),
        ("", "Ben Moss", "no name"),
        ("this is Ann.", "Ann Grey", "no name"),
        ("this is Zoe Lake.", "Ann Grey", "no name"),
    ]
    for answer, name, wanted in cases:
        got = bench.call(answer, name, names)
        known = isinstance(got, str) and got in HINTS
        hint = HINTS[wanted] if known else f"return one of {', '.join(map(repr, HINTS))}."
        happened = f"{got!r} came back for {answer!r}, the picture showing {name}"
        bench.hold(got == wanted, happened, f"{wanted!r} was expected", hint)
    bench.done()


def counterweight(function) -> None:
    """Checks counterweight(forget, retain, c): forget - c max(0, <retain, forget>) / <retain,
    retain> retain, tensors of one shape, float64. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = ((5, 8), 1.0, 1.0), ((3, 6), 2.0, 1.0), ((4, 7), 0.5, 1.0), ((6, 2), 2.0, -1.0)
    for seed, (shape, c, side) in enumerate(cases):
        retain = random_tensor(seed + 50, *shape)
        forget = random_tensor(seed, *shape) + side * retain * 1.5
        inner = (forget * retain).sum()
        part = inner / (retain * retain).sum() * retain
        slips = {
            "the share is added: take it off.": forget + c * part,
            "divide by the square of the norm, <r, r>.": (
                forget - c * inner / retain.norm() * retain
            ),
            "divided by the norm of f: how much of r there is in f is <r, f> / <r, r>.": (
                forget - c * inner / (forget * forget).sum() * retain
            ),
            "this is the share itself: subtract it from f.": c * part,
            "c has no effect: it multiplies the share.": forget - part,
        }
        if side < 0:
            apart = "where the two point apart (<r, f> below 0) nothing is taken off."
            slips = {apart: forget - c * part, **slips}
        wanted = forget - c * part if side > 0 else forget
        bench.close(bench.call(forget, retain, c), wanted, slips)
    bench.done()
