"""Checks for notebook 04: one step, its relative size, and the next step of the search."""

import math

from slugkit.workbook.teach.checks.bench import Bench, random_tensor, shapes

WALK = {9.05: True, 4.525: True, 2.2625: False, 3.39375: False, 3.959375: False, 4.2421875: True}
"""Steps and outcomes of a published search (units of 1e-4): no doubling, one way back."""


def one_step(function) -> None:
    """Checks one_step(theta, g_f, lam): theta - lam * g_f as a new tensor; theta stays. Raises
    CheckFailed.
    """
    bench = Bench(function)
    for i, lam in ((i, lam) for i in range(len(shapes())) for lam in (0.3, 2.0, 0.0)):
        shape = shapes()[i]
        theta, g = random_tensor(i, *shape), random_tensor(90 + i, *shape)
        step, unit = lam * g, g / g.norm()
        slips = {
            "the step goes uphill: subtract, or the forget loss (the mean cosine) grows.": (
                theta + step
            ),
            "lam is missing: the gradient is to be multiplied by it.": theta - g,
            "this is the change alone: subtract it from theta.": step,
            "this is the change alone, with its sign: add it to theta.": -step,
            "the gradient was normalised first: lam multiplies it as it is.": theta - lam * unit,
            "lam is read as a relative step: it multiplies g_f as it is.": (
                theta - lam * unit * theta.norm()
            ),
            "theta is scaled too: only the gradient is multiplied by lam.": lam * (theta - g),
            "only the signs of the gradient were used.": theta - lam * g.sign(),
        }
        bench.close(bench.call(theta, g, lam), theta - step, slips)
    bench.done()


def relative_step(function) -> None:
    """Checks relative_step(lam, g_f, theta): rho = lam * norm of g_f / norm of theta, a share (0.1
    is 10 %). Raises CheckFailed.
    """
    bench = Bench(function)
    for i, lam in ((i, lam) for i in range(len(shapes())) for lam in (0.3, 2.0)):
        shape = shapes()[i]
        g, theta = random_tensor(i, *shape), 3 * random_tensor(20 + i, *shape)
        ratio = g.norm() / theta.norm()
        sums = g.abs().sum() / theta.abs().sum()
        slips = {
            "lam is missing: multiply the importance by it.": ratio,
            "turned round: the norm of theta belongs below.": lam / ratio,
            "lam belongs above: multiply by it.": ratio / lam,
            "in percent already: return the share, 0.1 for 10 %.": 100 * lam * ratio,
            "this is the length of the change: divide by the norm of theta.": lam * g.norm(),
            "the norms look squared: was a square root left out?": lam * ratio**2,
            "the square of lam: was it multiplied into g_f and taken again?": lam**2 * ratio,
            "these are sums of absolute values: take roots of sums of squares.": lam * sums,
        }
        bench.close(bench.call(lam, g, theta), lam * ratio, slips)
    theta, look = random_tensor(1, 6, 6), "with g_f = theta, rho is lam itself."
    bench.close(bench.call(0.1, theta, theta), 0.1, {}, look)
    bench.done()


def _right(low, high, lam, forgotten):
    low, high = (low, lam) if forgotten else (lam, high)
    return low, high, 2 * lam if math.isinf(high) else (low + high) / 2


def _slips(low, high, lam, forgotten) -> dict:
    """Answers of the usual mistakes."""
    new_low, new_high, new_lam = _right(low, high, lam, forgotten)
    swapped = _right(low, high, lam, not forgotten)
    wrong_next = {
        "once there is an upper bound, take the middle of the bracket, not twice lam.": 2 * lam,
        "without an upper bound there is no middle: double lam.": (new_low + new_high) / 2,
        "the middle was taken of the old bracket: move the bound first.": (low + high) / 2,
        "halving lam forgets the lower bound: take the middle of low and high.": lam / 2,
        "half the width is too small: the middle is (low + high) / 2.": (new_high - new_low) / 2,
    }
    if new_low > 0 and math.isfinite(new_high):
        geometric = "this is the geometric mean: bisection takes (low + high) / 2."
        wrong_next[geometric] = math.sqrt(new_low * new_high)
    return {
        "the two branches are swapped: forgotten lowers `high`, else `low` is raised.": swapped,
        **{hint: (new_low, new_high, wrong) for hint, wrong in wrong_next.items()},
        "both bounds were moved: one probe moves one bound.": (lam, lam, lam),
        "the bounds did not move: lam becomes the new bound.": (low, high, new_lam),
    }


def next_lam(function) -> None:
    """Checks next_lam(low, high, lam, forgotten) -> (low, high, lam): doubles while high is
    infinite, then halves the bracket. Raises CheckFailed.
    """
    bench = Bench(function)
    inf = math.inf
    for case in (
        (0.0, inf, 0.1, False),
        (0.1, inf, 0.2, False),
        (0.0, inf, 0.4, True),
        (0.2, inf, 0.4, True),
        (0.2, 0.4, 0.3, False),
        (0.2, 0.4, 0.3, True),
        (1.0, 8.0, 4.5, True),
        (1.0, 8.0, 4.5, False),
    ):
        _compare(bench, case)
    low, high, lam = 0.0, inf, next(iter(WALK))
    for step, forgotten in WALK.items():
        happened = f"walking through a published search the step is {lam:.6g}"
        look = "hand low, high and lam on from call to call."
        bench.hold(math.isclose(lam, step), happened, f"{step:.6g} was expected", look)
        low, high, lam = _compare(bench, (low, high, lam, forgotten))
    bench.done()


def _compare(bench: Bench, case) -> tuple[float, ...]:
    """One call against the rule. Returns the answer."""
    three = "three numbers (low, high, lam) were expected"
    answer = bench.numbers(bench.call(*case), three, "return low, high, lam.", 3)
    gave = "next_lam({:g}, {:g}, {:g}, {}) gave {}".format(*case, _words(answer))
    look = "follow the rule on paper for this one call."
    bench.same(answer, _right(*case), _slips(*case), look, gave, _equal, _words)
    return answer


def _equal(a, b) -> bool:
    return all(x == y or math.isclose(x, y, rel_tol=1e-9) for x, y in zip(a, b, strict=True))


def _words(values) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
