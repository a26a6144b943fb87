"""Checks for notebook 04: one step, its relative size, and the next step of the search."""

import math

from slugkit.teach.checks.bench import Bench, random_tensor, shapes

# steps and outcomes of a published search (units of 1e-4): doubling is not needed, bisection with one way back
WALK = [(9.05, True), (4.525, True), (2.2625, False), (3.39375, False), (3.959375, False), (4.2421875, True)]


def one_step(function) -> None:
    """Checks one_step(theta, g_f, lam): theta - lam * g_f as a new tensor; theta stays. Raises CheckFailed."""
    bench = Bench(function)
    for i, shape in enumerate(shapes()):
        for lam in (0.3, 2.0, 0.0):
            theta, g = random_tensor(i, *shape), random_tensor(90 + i, *shape)
            slips = {
                "the step goes uphill: subtract, or the forget loss (the mean cosine) grows.": theta + lam * g,
                "lam is missing: the gradient is to be multiplied by it.": theta - g,
                "this is the change alone: subtract it from theta.": lam * g,
                "this is the change alone, with its sign: add it to theta.": -lam * g,
                "the gradient was normalised first: lam multiplies g_f as it is.": theta - lam * g / g.norm(),
                "lam is read as a relative step: it multiplies g_f as it is.": theta
                - lam * g * theta.norm() / g.norm(),
                "theta is scaled too: only the gradient is multiplied by lam.": lam * (theta - g),
                "only the signs of the gradient were used.": theta - lam * g.sign(),
            }
            bench.close(bench.call(theta, g, lam), theta - lam * g, slips)
    bench.done()


def relative_step(function) -> None:
    """Checks relative_step(lam, g_f, theta): rho = lam * norm of g_f / norm of theta, a share (0.1 is 10 %). Raises
    CheckFailed.
    """
    bench = Bench(function)
    for i, shape in enumerate(shapes()):
        for lam in (0.3, 2.0):
            g, theta = random_tensor(i, *shape), 3 * random_tensor(20 + i, *shape)
            ratio = g.norm() / theta.norm()
            slips = {
                "lam is missing: multiply the importance by it.": ratio,
                "turned round: the norm of theta belongs below.": lam / ratio,
                "lam belongs above: multiply by it.": ratio / lam,
                "in percent already: return the share, 0.1 for 10 %.": 100 * lam * ratio,
                "this is the length of the change: divide by the norm of theta.": lam * g.norm(),
                "the norms look squared: was a square root left out?": lam * ratio**2,
                "the square of lam: was the norm taken of lam * g_f and multiplied by lam again?": lam**2 * ratio,
                "these are sums of absolute values; take the root of the sum of squares.": lam
                * g.abs().sum()
                / theta.abs().sum(),
            }
            bench.close(bench.call(lam, g, theta), lam * ratio, slips)
    theta = random_tensor(1, 6, 6)
    bench.close(
        bench.call(0.1 * theta.norm().item() / theta.norm().item(), theta, theta),
        0.1,
        {},
        "with g_f = theta, rho is lam itself.",
    )
    bench.done()


def _right(low, high, lam, forgotten):
    low, high = (low, lam) if forgotten else (lam, high)
    return low, high, 2 * lam if math.isinf(high) else (low + high) / 2


def _slips(low, high, lam, forgotten) -> dict:
    """Answers of the usual mistakes."""
    new_low, new_high, _ = _right(low, high, lam, forgotten)
    swapped = _right(low, high, lam, not forgotten)
    slips = {
        "the two branches are swapped: forgotten lowers `high`, not forgotten raises `low`.": swapped,
        "once there is an upper bound, the next step is the middle of the bracket, not twice the last.": (
            new_low,
            new_high,
            2 * lam,
        ),
        "without an upper bound there is no middle: double lam while `high` is infinite.": (
            new_low,
            new_high,
            (new_low + new_high) / 2,
        ),
        "the middle was taken of the old bracket: move the bound first, then halve.": (
            new_low,
            new_high,
            (low + high) / 2,
        ),
        "halving lam forgets the lower bound: take the middle of low and high.": (new_low, new_high, lam / 2),
        "both bounds were moved: one probe moves one bound.": (lam, lam, lam),
        "the middle is (low + high) / 2; half the width alone is too small.": (
            new_low,
            new_high,
            (new_high - new_low) / 2,
        ),
        "the bounds did not move: lam becomes the new bound.": (low, high, _right(low, high, lam, forgotten)[2]),
    }
    if new_low > 0 and math.isfinite(new_high):
        slips["this is the geometric mean: bisection takes (low + high) / 2."] = (
            new_low,
            new_high,
            math.sqrt(new_low * new_high),
        )
    return slips


def next_lam(function) -> None:
    """Checks next_lam(low, high, lam, forgotten) -> (low, high, lam): doubles while high is infinite, then halves the
    bracket. Raises CheckFailed.
    """
    bench = Bench(function)
    inf = math.inf
    cases = [(0.0, inf, 0.1, False), (0.1, inf, 0.2, False), (0.0, inf, 0.4, True), (0.2, inf, 0.4, True)]
    cases += [(0.2, 0.4, 0.3, False), (0.2, 0.4, 0.3, True), (1.0, 8.0, 4.5, True), (1.0, 8.0, 4.5, False)]
    for case in cases:
        _compare(bench, case)
    low, high, lam = 0.0, inf, WALK[0][0]
    for step, forgotten in WALK:
        bench.hold(
            math.isclose(lam, step),
            f"walking through a published search the step is {lam:.6g}",
            f"{step:.6g} was expected",
            "hand low, high and lam on from call to call.",
        )
        _compare(bench, (low, high, lam, forgotten))
        low, high, lam = (float(value) for value in bench.call(low, high, lam, forgotten))
    bench.done()


def _compare(bench: Bench, case) -> None:
    """One call against the rule."""
    answer, wanted = bench.call(*case), _right(*case)
    try:
        answer = tuple(float(value) for value in answer)
    except (TypeError, ValueError):
        bench.fail(f"{answer!r} came back", "three numbers (low, high, lam) were expected", "return low, high, lam.")
    if len(answer) != 3:
        bench.fail(f"{len(answer)} numbers came back", "three (low, high, lam) were expected", "return low, high, lam.")
    same = _equal(answer, wanted)
    look = next(
        (hint for hint, wrong in _slips(*case).items() if _equal(answer, wrong)),
        "follow the rule on paper for this one call.",
    )
    low, high, lam, forgotten = case
    bench.hold(
        same,
        f"next_lam({low:g}, {high:g}, {lam:g}, {forgotten}) gave {_words(answer)}",
        f"{_words(wanted)} was expected",
        look,
    )


def _equal(a, b) -> bool:
    return all(x == y or math.isclose(x, y, rel_tol=1e-9) for x, y in zip(a, b, strict=True))


def _words(values) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
