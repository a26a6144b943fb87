"""Checks for notebook 07: the three outcomes of a name, and a direction with its counterweight."""

from slugkit.teach.checks.bench import Bench, random_tensor

OUTCOMES = ("right name", "another name", "no name")


def name_outcome(function) -> None:
    """Checks name_outcome(answer, name, names) -> "right name", "another name" or "no name", upper and lower case alike. Raises CheckFailed."""
    bench = Bench(function)
    names = ["Ann Grey", "Ben Moss", "Cyd Vale"]
    cases = [("this is Ann Grey.", "Ann Grey", 0), ("this is Ben Moss.", "Ann Grey", 1), ("I don't know this person.", "Ann Grey", 2),
             ("this is ann grey.", "Ann Grey", 0), ("THIS IS CYD VALE", "Ben Moss", 1), ("", "Ben Moss", 2), ("this is Ann.", "Ann Grey", 2),
             ("this is Zoe Lake.", "Ann Grey", 2)]
    for answer, name, which in cases:
        got, wanted = bench.call(answer, name, names), OUTCOMES[which]
        hint = "return one of 'right name', 'another name', 'no name'."
        if got in OUTCOMES:
            hint = {0: "upper and lower case are the same: compare lower-case texts.", 1: "look for every name of the list, not for the right one alone.",
                    2: "an answer without a whole name of the list is 'no name', whatever else it says."}[which]
        bench.hold(got == wanted, f"{got!r} came back for {answer!r}, the picture showing {name}", f"{wanted!r} was expected", hint)
    bench.done()


def counterweight(function) -> None:
    """Checks counterweight(forget, retain, c): forget - c max(0, <retain, forget>) / <retain, retain> retain, tensors of one shape, float64. Raises CheckFailed."""
    bench = Bench(function)
    for seed, shape, c, side in ((0, (5, 8), 1.0, 1.0), (1, (3, 6), 2.0, 1.0), (2, (4, 7), 0.5, 1.0), (3, (6, 2), 2.0, -1.0)):
        retain = random_tensor(seed + 50, *shape)
        forget = random_tensor(seed, *shape) + side * retain * 1.5
        inner, square = (forget * retain).sum(), (retain * retain).sum()
        part = inner / square * retain
        wanted = forget - c * part if side > 0 else forget
        slips = {"the share is added: take it off.": forget + c * part,
                 "divide by the square of the norm, <r, r>, not by the norm.": forget - c * inner / square.sqrt() * retain,
                 "the share is divided by the norm of f: how much of r there is in f is <r, f> / <r, r>.": forget - c * inner / (forget * forget).sum() * retain,
                 "this is the share itself: subtract it from f.": c * part}
        if c != 1.0:
            slips["c has no effect: it multiplies the share."] = forget - part
        if side < 0:
            slips["where the two point apart (<r, f> below 0) nothing is taken off."] = forget - c * part
        bench.close(bench.call(forget, retain, c), wanted, slips)
    bench.done()
