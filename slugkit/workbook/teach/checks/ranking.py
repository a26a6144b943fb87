"""Checks for notebooks 00 and 03: cosine, importance, alignment, the Pareto front."""

import numpy as np
import torch

from slugkit.workbook.teach.checks.bench import Bench, random_tensor, shapes


def _cosine(a, b) -> torch.Tensor:
    a, b = a.flatten(), b.flatten()
    return a @ b / (a.norm() * b.norm())


def cosine(function) -> None:
    """Checks cosine(a, b): cosine of two vectors (d,), float64, -1..1. Raises CheckFailed."""
    bench = Bench(function)
    pairs = [(random_tensor(i, d), random_tensor(50 + i, d)) for i, d in enumerate((3, 8, 64))]
    one, eye = pairs[1][0], torch.eye(4, dtype=torch.float64)
    for a, b in [*pairs, (one, 3.5 * one), (one, -0.5 * one), (eye[0], eye[2])]:
        dot, value, norms = a @ b, _cosine(a, b), a.norm() * b.norm()
        slips = {
            "this is the bare dot product: divide by both norms.": dot,
            "divided by one norm only: divide by that of b too.": dot / a.norm(),
            "divided by one norm only: divide by that of a too.": dot / b.norm(),
            "the norms look squared: sum of squares needs its square root.": dot / norms**2,
            "opposite vectors have cosine -1: leave the sign, no abs here.": value.abs(),
            "the sign is turned round.": -value,
            "divide by the product of the norms, not by their sum.": dot / (a.norm() + b.norm()),
            "this is 1 - cosine, a distance.": 1 - value,
        }
        bench.close(bench.call(a, b), value, slips)
    bench.done()


def importance(function) -> None:
    """Checks importance(g_f, theta): Frobenius norm of the gradient over that of the weight, same
    shape. Raises CheckFailed.
    """
    bench = Bench(function)
    pairs = [(random_tensor(i, *s), 2 * random_tensor(70 + i, *s)) for i, s in enumerate(shapes())]
    (a, b), (c, d) = pairs[:2]
    for g, theta in [*pairs, (10 * a, b), (c, 5 * d), (-a, b)]:
        above, below, each = g.norm(), theta.norm(), g / theta
        slips = {
            "turned round: the gradient's norm belongs above, the weight's below.": below / above,
            "this is the gradient's norm alone: divide by the norm of theta.": above,
            "the norms look squared: was a square root left out?": (above / below) ** 2,
            "this is the mean of |g / theta|: divide norms of whole tensors.": each.abs().mean(),
            "this is the norm of g / theta entry by entry: two norms first.": each.norm(),
            "sums of absolute values: take the root of the sum of squares.": (
                g.abs().sum() / theta.abs().sum()
            ),
            "the ratio of the largest entries: take the norm over all.": (
                g.abs().max() / theta.abs().max()
            ),
            "this multiplies the norms: divide by that of theta.": above * below,
            "an inner product, the sum g · theta: take each norm alone.": (g * theta).sum() / below,
        }
        if g.ndim == 2:
            largest = [torch.linalg.matrix_norm(x, 2) for x in (g, theta)]
            slips["this is the spectral norm: the Frobenius norm runs over all entries."] = (
                largest[0] / largest[1]
            )
        bench.close(bench.call(g, theta), above / below, slips)
    bench.done()


def alignment(function) -> None:
    """Checks alignment(g_f, g_r): |cosine| of two gradients of one shape, flattened, 0..1. Raises
    CheckFailed.
    """
    bench = Bench(function)
    pairs = [(random_tensor(i, *s), random_tensor(30 + i, *s)) for i, s in enumerate(shapes())]
    (a, _), (c, d) = pairs[:2]
    for g, r in [*pairs, (a, 4 * a), (a, -0.25 * a), (c, -d)]:
        dot, value = (g * r).sum(), _cosine(g, r)
        slips = {
            "a cosine can be negative: take its absolute value.": value if value < 0 else None,
            "the sign is turned round; take the absolute value.": -value if value > 0 else None,
            "this is the bare dot product: divide by both norms.": dot,
            "this is the absolute dot product: divide by both norms.": dot.abs(),
            "divided by one norm only: divide by both.": dot.abs() / g.norm(),
            "divided by one norm only, that of g_r: divide by both.": dot.abs() / r.norm(),
            "the norms look squared: was a root left out?": value.abs() / (g.norm() * r.norm()),
            "this is 1 - |cos|; small alignment is to mean little harm.": 1 - value.abs(),
        }
        if g.ndim > 1:
            rows = torch.nn.functional.cosine_similarity(g.flatten(1), r.flatten(1), dim=1)
            flat = "flatten both gradients into one long vector first."
            slips[f"this is a mean over rows: {flat}"] = rows.mean().abs()
            slips[f"this is a mean of |cos| over rows: {flat}"] = rows.abs().mean()
        answer = bench.number(bench.call(g, r))
        hint = "compare each step with the formula above."
        if answer > 1 + 1e-9:
            hint = f"{answer:.3g} is above 1: did you divide by both norms?"
        bench.close(answer, value.abs(), slips, hint)
    bench.done()


def _front(importance, alignment, beats) -> list[bool]:
    points = list(zip(importance, alignment, strict=True))
    return [
        not any(beats(other, point) for j, other in enumerate(points) if j != i)
        for i, point in enumerate(points)
    ]


def _beats(o, p) -> bool:
    return o != p and o[0] >= p[0] and o[1] <= p[1]


def _pareto_slips(imp, ali, expected) -> dict:
    """Answers of the usual mistakes."""
    low, down = [-i for i in imp], [-a for a in ali]
    beaten = [
        any(i > a for i in imp) and any(j < b for j in ali) for a, b in zip(imp, ali, strict=True)
    ]
    twins = _front(imp, ali, lambda o, p: o[0] >= p[0] and o[1] <= p[1])
    strict = _front(imp, ali, lambda o, p: o[0] > p[0] and o[1] < p[1])
    same, turned, both = (_front(*way, _beats) for way in ((imp, down), (low, ali), (low, down)))
    apart, first = [not item for item in beaten], [i == max(imp) for i in imp]
    return {
        "exact twins do not beat each other: both stay on the front.": twins,
        "every layer beats itself here: make one of >= and <= strict.": [False] * len(imp),
        "matched in one score and beaten in the other is off the front: one strict sign.": strict,
        "True and False are swapped: True means on the front.": [not item for item in expected],
        "both scores are read the same way: importance is to be high, alignment low.": same,
        "importance is to be high: turn its comparison round.": turned,
        "both comparisons are turned round: high importance and low alignment win.": both,
        "only the most important layer was kept: one with less alignment stays too.": first,
        "a layer is beaten where ONE other layer is better in both, not one in each.": apart,
    }


def pareto(function) -> None:
    """Checks pareto(importance, alignment): which layers no other beats, a list of bool as long as
    the inputs.

    The inputs are numpy arrays. Weak dominance: beaten is who is matched in one score and beaten in
    the other; exact twins both stay. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = [([3.0, 2.0, 1.0], [0.1, 0.2, 0.3])]
    cases += [tuple(random_tensor(seed, 2, 12).abs().tolist()) for seed in range(4)]
    cases += [([3.0, 2.0, 1.0], [0.3, 0.2, 0.1]), ([1.0], [0.5])]
    cases += [([2.0, 2.0, 1.0], [0.1, 0.2, 0.05]), ([2.0, 1.0, 0.5], [0.2, 0.2, 0.1])]
    cases += [([2.0, 2.0, 1.0], [0.1, 0.1, 0.2])]
    for imp, ali in cases:
        answer = bench.listed(bench.call(np.array(imp), np.array(ali)))
        if len(answer) != len(imp) or not all(item in (0, 1) for item in answer):
            wanted = f"a list of {len(imp)} times True or False was expected"
            look = "one answer for each layer, in their order."
            bench.fail(f"{answer!r} came back", wanted, look)
        answer, expected = [bool(item) for item in answer], _front(imp, ali, _beats)
        paper = "draw the points on paper: who has another to the upper left?"
        gave = f"importance {_short(imp)}, alignment {_short(ali)} gave {answer}"
        bench.same(answer, expected, _pareto_slips(imp, ali, expected), paper, gave)
    bench.done()


def _short(values) -> str:
    return "[" + ", ".join(f"{value:.2g}" for value in values) + "]"
