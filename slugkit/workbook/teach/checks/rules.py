"""Checks of rules: the Pareto front, the next step of the search, the outcome of a name."""

import math

import numpy as np
import pandas as pd

from slugkit.workbook.teach.checks.bench import Bench, exercise, flags, random_tensor, several


def _front(importance, alignment, beats) -> list[bool]:
    points = list(zip(importance, alignment))
    return [
        not any(beats(other, point) for j, other in enumerate(points) if j != i)
        for i, point in enumerate(points)
    ]


def _beats(o, p) -> bool:
    return o != p and o[0] >= p[0] and o[1] <= p[1]


FRONTS = [
    ([3.0, 2.0, 1.0], [0.1, 0.2, 0.3]),
    *(random_tensor(seed, 2, 12).abs().tolist() for seed in range(4)),
    ([3.0, 2.0, 1.0], [0.3, 0.2, 0.1]),
    ([1.0], [0.5]),
    ([2.0, 2.0, 1.0], [0.1, 0.2, 0.05]),
    ([2.0, 1.0, 0.5], [0.2, 0.2, 0.1]),
    ([2.0, 2.0, 1.0], [0.1, 0.1, 0.2]),
]
PAPER = "draw the points on paper: who has another to the upper left?"


@exercise([tuple(map(np.array, case)) for case in FRONTS], flags, PAPER)
def pareto(importance, alignment):
    """Checks pareto(importance, alignment): which layers no other beats, a list of bool.

    Weak dominance: beaten is who is matched in one score and beaten in the other; twins both stay.
    """
    imp, ali = importance.tolist(), alignment.tolist()
    low, down, right = [-i for i in imp], [-a for a in ali], _front(imp, ali, _beats)
    twins = _front(imp, ali, lambda o, p: o[0] >= p[0] and o[1] <= p[1])
    strict = _front(imp, ali, lambda o, p: o[0] > p[0] and o[1] < p[1])
    same, turned, both = (_front(*way, _beats) for way in ((imp, down), (low, ali), (low, down)))
    first = [i == max(imp) for i in imp]
    apart = [i == max(imp) or a == min(ali) for i, a in zip(imp, ali)]
    return right, {
        "exact twins do not beat each other: both stay on the front.": twins,
        "every layer beats itself here: make one of >= and <= strict.": [False] * len(imp),
        "matched in one score and beaten in the other is off the front: one strict sign.": strict,
        "True and False are swapped: True means on the front.": [not item for item in right],
        "both are read the same way: importance is to be high, alignment low.": same,
        "importance is to be high: turn its comparison round.": turned,
        "both comparisons are turned round: high importance and low alignment win.": both,
        "only the most important layer was kept: one with less alignment stays too.": first,
        "a layer is beaten where ONE other layer is better in both, not one in each.": apart,
    }


def _next(low, high, lam, forgotten) -> tuple[float, float, float]:
    low, high = (low, lam) if forgotten else (lam, high)
    return low, high, 2 * lam if math.isinf(high) else (low + high) / 2


WALK = {9.05: True, 4.525: True, 2.2625: False, 3.39375: False, 3.959375: False, 4.2421875: True}
"""Steps and outcomes of a published search (units of 1e-4): no doubling, one way back."""


def _calls():
    """Single calls, then the walk through the published search."""
    inf = math.inf
    yield from [(0.0, inf, 0.1, False), (0.1, inf, 0.2, False), (0.0, inf, 0.4, True)]
    yield from [(0.2, inf, 0.4, True), (0.2, 0.4, 0.3, False), (0.2, 0.4, 0.3, True)]
    yield from [(1.0, 8.0, 4.5, True), (1.0, 8.0, 4.5, False)]
    low, high = 0.0, inf
    for lam, forgotten in WALK.items():
        yield low, high, lam, forgotten
        low, high, _ = _next(low, high, lam, forgotten)


RULE = "follow the rule on paper for this one call."


@exercise(_calls(), several("low", "high", "lam"), RULE, tolerance=1e-9)
def next_lam(low, high, lam, forgotten):
    """Checks next_lam(low, high, lam, forgotten) -> (low, high, lam): double, then bisect."""
    bottom, top, step = right = _next(low, high, lam, forgotten)
    geometric = math.sqrt(bottom * top) if bottom > 0 else math.nan
    slips = {
        "once there is an upper bound, take the middle of the bracket, not twice lam.": 2 * lam,
        "without an upper bound there is no middle: double lam.": (bottom + top) / 2,
        "the middle was taken of the old bracket: move the bound first.": (low + high) / 2,
        "halving lam forgets the lower bound: take the middle of low and high.": lam / 2,
        "half the width is too small: the middle is (low + high) / 2.": (top - bottom) / 2,
        "this is the geometric mean: bisection takes (low + high) / 2.": geometric,
    }
    swapped = "the two branches are swapped: forgotten lowers `high`, else `low` is raised."
    return right, {
        swapped: _next(low, high, lam, not forgotten),
        **{hint: (bottom, top, wrong) for hint, wrong in slips.items()},
        "both bounds were moved: one probe moves one bound.": (lam, lam, lam),
        "the bounds did not move: lam becomes the new bound.": (low, high, step),
    }


HINTS = {
    "right name": "upper and lower case are the same: compare lower-case texts.",
    "another name": "look for every name of the list, not for the right one alone.",
    "no name": "without a whole name of the list it is 'no name', whatever else the answer says.",
}
SAID = [  # answer, right name, outcome
    ("this is Ann Grey.", "Ann Grey", "right name"),
    ("this is Ben Moss.", "Ann Grey", "another name"),
    ("I don't know this person.", "Ann Grey", "no name"),
    ("this is ann grey.", "Ann Grey", "right name"),
    ("THIS IS CYD VALE", "Ben Moss", "another name"),
    ("", "Ben Moss", "no name"),
    ("this is Ann.", "Ann Grey", "no name"),
    ("this is Zoe Lake.", "Ann Grey", "no name"),
]


def name_outcome(function) -> None:
    """Checks name_outcome(answer, name, names) -> "right name", "another name" or "no name", upper
    and lower case alike. Raises CheckFailed.
    """
    bench = Bench(function)
    for answer, name, wanted in SAID:
        got = bench.call(answer, name, ["Ann Grey", "Ben Moss", "Cyd Vale"])
        known = isinstance(got, str) and got in HINTS
        look = HINTS[wanted] if known else f"return one of {', '.join(map(repr, HINTS))}."
        seen = f"{got!r} came back for {answer!r}, the picture showing {name}"
        bench.hold(got == wanted, f"{seen}; {wanted!r} was expected", look)
    bench.done()


CLAIMS = ("more", "less", "no difference")
GAINS = [
    ([0.1, 0.9, 0.3, 0.7], [0.0, 0.5, 0.1, 0.4]),
    ([0.8, 0.2, 0.6, 0.1, -0.3], [0.0, 0.3, 0.1, 0.4, 0.3]),
    ([0.5, 0.1, -0.2, 0.9], [0.2, 0.21, 0.2, 0.2]),
    ([0.2, 0.9, 0.1, 0.8], [0.3, 0.1, 0.3, 0.15]),
]
"""Tables of pairs: alike, and by how much the FA@5 of both is above that of each alone."""


def _claim(table: pd.DataFrame) -> tuple[str, float]:
    """What the halves of a table of pairs say, and their difference."""
    gain = (table["both"] - table["alone"])[table["alike"].sort_values(kind="stable").index]
    half = len(gain) // 2
    apart = gain.iloc[-half:].mean() - gain.iloc[:half].mean()
    return CLAIMS[0 if apart > 0.02 else 1 if apart < -0.02 else 2], apart


def pair_experiment(function, table: pd.DataFrame | None = None) -> None:
    """Checks an experiment on pairs: the claim that the function makes of made-up tables, then the
    form of the reader's own table, and the claim about it.

    table: of `slugkit.unlearning.adding.pair_rows`; None checks the function alone.
    """
    bench = Bench(function)
    tables = [
        pd.DataFrame({"alike": alike, "alone": 0.1, "both": 0.1 + np.array(gain)})
        for alike, gain in GAINS
    ]
    if table is not None:
        shares = table[["alone", "both"]].to_numpy(float)
        look = "make the table with adding.pair_rows."
        bench.hold(len(table) > 1, f"{len(table)} pairs came; two or more were expected", look)
        bench.hold(((shares >= 0) & (shares <= 1)).all(), "a share lies outside 0..1", look)
        named = table[["first", "second"]].apply(frozenset, axis=1)
        bench.hold(named.map(len).eq(2).all(), "somebody is paired with themselves", look)
        twice = "a pair stands twice, perhaps in the other order"
        bench.hold(named.is_unique, twice, "each pair counts once.")
        tables.append(table)
    for made in tables:
        wanted, apart = _claim(made)
        said = bench.call(made)
        ok = isinstance(said, str) and said in CLAIMS
        bench.need(ok, f"{str(said)[:40]!r} came back", f"return one of {', '.join(CLAIMS)}.")
        seen = f"{said!r} came back; the more alike half gains {100 * apart:.1f} points more"
        look = "compare both - alone, the half with larger alike against the other; 2 points count."
        bench.hold(said == wanted, f"{seen}, which is {wanted!r}", look)
    bench.done()


LOST = [  # names, right before, right after
    ("AABB", (1, 1, 1, 1), (1, 0, 1, 1)),
    ("AAAB", (1, 1, 0, 1), (0, 0, 0, 0)),
    ("AAAB", (1, 1, 0, 0), (0, 1, 0, 0)),
    ("AAABB", (1, 1, 0, 1, 0), (1, 0, 1, 1, 0)),
    ("BAAA", (0, 1, 1, 0), (0, 1, 1, 1)),
]


def lost_names(function) -> None:
    """Checks lost_names(names, before, after) -> {name: share 0..1 of the pictures that were right
    before and are wrong after}, without those who had none right before. Raises CheckFailed.
    """
    bench = Bench(function)
    for letters, before, after in LOST:
        rows = [(n, bool(b), bool(a)) for n, b, a in zip(letters, before, after, strict=True)]
        names, had, has = map(list, zip(*rows, strict=True))
        mine = {n: [(b, a) for name, b, a in rows if name == n] for n in sorted(set(names))}
        right = {n: [a for b, a in pairs if b] for n, pairs in mine.items()}
        wanted = {n: 1 - sum(a) / len(a) for n, a in right.items() if a}
        slips = {
            "divide by the pictures that were right before, not by all.": {
                n: sum(b and not a for b, a in pairs) / len(pairs) for n, pairs in mine.items()
            },
            "a picture that was wrong before cannot lose the name.": {
                n: sum(not a for _, a in pairs) / len(pairs) for n, pairs in mine.items()
            },
            "names that were gained do not make up for lost ones.": {
                n: sum(b - a for b, a in pairs) / sum(b for b, _ in pairs)
                for n, pairs in mine.items()
                if right[n]
            },
            "this is the share that kept the name.": {n: 1 - v for n, v in wanted.items()},
            "this counts pictures: divide for a share.": {
                n: len(right[n]) * v for n, v in wanted.items()
            },
            "leave out those who had no right picture before.": {
                n: wanted.get(n, 0.0) for n in mine
            },
        }
        got = bench.call(names, had, has)
        bench.need(isinstance(got, dict), f"{got!r} came back", "return a dictionary of shares.")

        def same(table, got=got):
            return got.keys() == table.keys() and all(
                math.isclose(got[n], v, abs_tol=1e-9) for n, v in table.items()
            )

        hints = [hint for hint, table in slips.items() if table != wanted and same(table)]
        seen = (
            f"{got} came back for {names}, right before {had}, after {has}; {wanted} was expected"
        )
        look = hints[0] if hints else "one share for each name that was right at least once before."
        bench.hold(same(wanted), seen, look)
    bench.done()
