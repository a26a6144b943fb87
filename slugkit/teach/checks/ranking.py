"""Checks for notebooks 00 and 03: cosine, importance, alignment, the Pareto front."""

import numpy as np
import torch

from slugkit.teach.checks.bench import Bench, random_tensor, shapes


def _cosine(a, b) -> torch.Tensor:
    a, b = a.flatten(), b.flatten()
    return a @ b / (a.norm() * b.norm())


def cosine(function) -> None:
    """Checks cosine(a, b): cosine of two vectors (d,), float64, a number -1..1. Raises CheckFailed."""
    bench = Bench(function)
    pairs = [(random_tensor(i, d), random_tensor(50 + i, d)) for i, d in enumerate((3, 8, 64))]
    a = pairs[1][0]
    pairs += [(a, 3.5 * a), (a, -0.5 * a), (torch.eye(4, dtype=torch.float64)[0], torch.eye(4, dtype=torch.float64)[2])]
    for a, b in pairs:
        dot = a @ b
        slips = {
            "this is the bare dot product: divide by both norms.": dot,
            "divided by one norm only: divide by the norm of a and by the norm of b.": dot / a.norm(),
            "divided by one norm only, that of b: divide by that of a too.": dot / b.norm(),
            "the norms look squared: sum of squares needs its square root.": dot / (a.norm() * b.norm()) ** 2,
            "opposite vectors have cosine -1: leave the sign, no abs here.": _cosine(a, b).abs(),
            "the sign is turned round.": -_cosine(a, b),
            "divide by the product of the norms, not by their sum.": dot / (a.norm() + b.norm()),
            "this is 1 - cosine, a distance.": 1 - _cosine(a, b),
        }
        bench.close(bench.call(a, b), _cosine(a, b), slips)
    bench.done()


def importance(function) -> None:
    """Checks importance(g_f, theta): Frobenius norm of the gradient over that of the weight, same shape. Raises
    CheckFailed.
    """
    bench = Bench(function)
    cases = [(random_tensor(i, *shape), 2 * random_tensor(70 + i, *shape)) for i, shape in enumerate(shapes())]
    cases += [(10 * cases[0][0], cases[0][1]), (cases[1][0], 5 * cases[1][1]), (-cases[0][0], cases[0][1])]
    for g, theta in cases:
        ratio = g.norm() / theta.norm()
        slips = {
            "turned round: the gradient's norm belongs above, the weight's below.": 1 / ratio,
            "this is the gradient's norm alone: divide by the norm of theta, or large weights look "
            "important.": g.norm(),
            "the norms look squared: was a square root left out?": ratio**2,
            "this is the mean of |g / theta|; the method divides norms of whole tensors.": (g / theta).abs().mean(),
            "this is the norm of g / theta entry by entry; take the two norms first, then divide.": (g / theta).norm(),
            "these are sums of absolute values; the Frobenius norm is the root of the sum of squares.": g.abs().sum()
            / theta.abs().sum(),
            "this is the ratio of the largest entries; take the norm over all of them.": g.abs().max()
            / theta.abs().max(),
            "this multiplies the norms: divide by that of theta.": g.norm() * theta.norm(),
            "this holds the sum g · theta, an inner product: take each norm on its own.": (g * theta).sum()
            / theta.norm(),
        }
        if g.ndim == 2:
            spectral = torch.linalg.matrix_norm(g, 2) / torch.linalg.matrix_norm(theta, 2)
            slips[
                "this is the spectral norm (the largest singular value); the Frobenius norm runs over all entries."
            ] = spectral
        bench.close(bench.call(g, theta), ratio, slips)
    bench.done()


def alignment(function) -> None:
    """Checks alignment(g_f, g_r): |cosine| of two gradients of one shape, flattened, 0..1. Raises CheckFailed."""
    bench = Bench(function)
    cases = [(random_tensor(i, *shape), random_tensor(30 + i, *shape)) for i, shape in enumerate(shapes())]
    one = cases[0][0]
    cases += [(one, 4 * one), (one, -0.25 * one), (cases[1][0], -cases[1][1])]
    for g, r in cases:
        dot, value = (g * r).sum(), _cosine(g, r)
        slips = {
            "a cosine can be negative: opposite gradients count as aligned too, so take its absolute value.": value
            if value < 0
            else None,
            "the sign is turned round, and the absolute value is missing.": -value if value > 0 else None,
            "this is the bare dot product: divide by both norms.": dot,
            "this is the absolute dot product: divide by both norms.": dot.abs(),
            "divided by one norm only: divide by both.": dot.abs() / g.norm(),
            "divided by one norm only, that of g_r: divide by both.": dot.abs() / r.norm(),
            "the norms look squared: was a square root left out?": value.abs() / (g.norm() * r.norm()),
            "this is 1 - |cos|; small alignment is to mean little harm.": 1 - value.abs(),
        }
        if g.ndim > 1:
            rows = torch.nn.functional.cosine_similarity(g.flatten(1), r.flatten(1), dim=1)
            slips["this is a mean over rows: flatten both gradients into one long vector first."] = rows.mean().abs()
            slips["this is a mean of |cos| over rows: flatten both gradients into one long vector first."] = (
                rows.abs().mean()
            )
        answer = bench.number(bench.call(g, r))
        hint = (
            f"{answer:.3g} is above 1: did you divide by both norms?"
            if answer > 1 + 1e-9
            else "compare each step with the formula above."
        )
        bench.close(answer, value.abs(), slips, hint)
    bench.done()


def _front(importance, alignment, beats) -> list[bool]:
    points = list(zip(importance, alignment, strict=True))
    return [not any(beats(other, point) for other in points) for point in points]


def _beats(o, p) -> bool:
    return o != p and o[0] >= p[0] and o[1] <= p[1]


def _pareto_slips(imp, ali, expected) -> dict:
    """Answers of the usual mistakes."""
    apart = [not (any(i > a for i in imp) and any(j < b for j in ali)) for a, b in zip(imp, ali, strict=True)]
    wrong_ways = {
        "both scores are read the same way: importance is to be high, alignment low.": (1, 1),
        "importance is to be high: turn its comparison round.": (-1, -1),
        "both comparisons are turned round: high importance and low alignment win.": (-1, 1),
    }
    return {
        "exact twins do not beat each other: both stay on the front.": _front_without_twins(imp, ali),
        "every layer beats itself here: one of >= and <= must be strict, or the layers must differ.": [False]
        * len(imp),
        "a layer that another matches in one score and beats in the other is off the front: use >= and <= with "
        "one of them strict.": _front(imp, ali, lambda o, p: o[0] > p[0] and o[1] < p[1]),
        "True and False are swapped: True means on the front.": [not item for item in expected],
        **{hint: _front([a * i for i in imp], [-b * j for j in ali], _beats) for hint, (a, b) in wrong_ways.items()},
        "only the most important layer was kept: a less important one stays where its alignment is lower.": [
            i == max(imp) for i in imp
        ],
        "a layer is beaten only where ONE other layer is better in both, not where some other is in each.": apart,
    }


def pareto(function) -> None:
    """Checks pareto(importance, alignment): which layers no other beats, a list of bool as long as the inputs.

    The inputs are numpy arrays. Weak dominance: beaten is who is matched in one score and beaten in the other; exact
    twins both stay. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = [([3.0, 2.0, 1.0], [0.1, 0.2, 0.3])]
    cases += [tuple(random_tensor(seed, 2, 12).abs().tolist()) for seed in range(4)]
    cases += [([3.0, 2.0, 1.0], [0.3, 0.2, 0.1]), ([1.0], [0.5]), ([2.0, 2.0, 1.0], [0.1, 0.2, 0.05])]
    cases += [([2.0, 1.0, 0.5], [0.2, 0.2, 0.1]), ([2.0, 2.0, 1.0], [0.1, 0.1, 0.2])]
    for imp, ali in cases:
        answer = bench.call(np.array(imp), np.array(ali))
        answer = answer.tolist() if hasattr(answer, "tolist") else list(answer)
        if len(answer) != len(imp) or not all(item in (0, 1) for item in answer):
            wanted = f"a list of {len(imp)} times True or False was expected"
            bench.fail(f"{answer!r} came back", wanted, "one answer for each layer, in their order.")
        answer, expected = [bool(item) for item in answer], _front(imp, ali, _beats)
        slips = _pareto_slips(imp, ali, expected)
        paper = "draw the points on paper: who has another to the upper left?"
        look = next((hint for hint, wrong in slips.items() if answer == wrong), paper)
        happened = f"importance {_short(imp)}, alignment {_short(ali)} gave {answer}"
        bench.hold(answer == expected, happened, f"{expected} was expected", look)
    bench.done()


def _short(values) -> str:
    return "[" + ", ".join(f"{value:.2g}" for value in values) + "]"


def _front_without_twins(imp, ali) -> list[bool]:
    """The front of somebody who lets equal points beat each other."""
    points = list(zip(imp, ali, strict=True))
    return [
        not any(i != j and o[0] >= p[0] and o[1] <= p[1] for j, o in enumerate(points)) for i, p in enumerate(points)
    ]
