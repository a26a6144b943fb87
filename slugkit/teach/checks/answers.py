"""Checks for notebook 07: the three outcomes of a name, and a direction taken off a span."""

import torch

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


def take_off(function) -> None:
    """Checks take_off(direction, span): direction (out, d) minus its part in the space of the k orthonormal columns of span
    (d, k), float64: direction - direction U U^T. Raises CheckFailed.
    """
    bench = Bench(function)
    for seed, (out, d, k) in enumerate(((5, 8, 3), (8, 8, 1), (3, 6, 5), (4, 7, 2))):
        direction, span = random_tensor(seed, out, d), torch.linalg.qr(random_tensor(seed + 50, d, k))[0]
        inside = direction @ span @ span.T
        slips = {"this is the part inside the span: subtract it from the direction.": inside,
                 "the part is added: subtract it.": direction + inside,
                 "nothing was taken off.": direction}
        if out == d:
            slips["this multiplies from the left, on what the layer writes: the inputs are on the right, direction @ U @ U.T."] = direction - span @ span.T @ direction
        bench.close(bench.call(direction, span), direction - inside, slips)
    bench.done()
