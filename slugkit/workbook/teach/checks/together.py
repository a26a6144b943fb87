"""Checks for notebook 08: the steps of several patches on one weight, and SLUG-R's direction."""

import torch

from slugkit.workbook.teach.checks.bench import Bench, random_tensor


def added_steps(function) -> None:
    """Checks added_steps(theta, lams, directions): theta minus the sum of lam_i * direction_i, two
    lists of one length, float64. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = ((4, 6), (2.0,)), ((5, 3), (0.5, 1.5)), ((3, 3), (1.0, 0.25, 4.0)), ((6, 2), ())
    for seed, (shape, lams) in enumerate(cases):
        theta = random_tensor(seed, *shape)
        directions = [random_tensor(10 * seed + k, *shape) for k in range(20, 20 + len(lams))]
        parts = [lam * direction for lam, direction in zip(lams, directions, strict=True)]
        total = sum(parts, torch.zeros_like(theta))
        slips = {}
        if parts:
            slips = {
                "the step is subtracted: theta - lam * direction.": theta + total,
                "every step starts from the weight as it is: take off all of them.": (
                    theta - parts[-1]
                ),
                "this is the change alone: take it off theta.": total,
            }
        if len(parts) > 1:
            slips |= {
                "the steps are added up, not averaged.": theta - total / len(parts),
                "only the first step was made: take off all of them.": theta - parts[0],
                "each direction has a lam of its own.": theta - lams[0] * sum(directions),
            }
        bench.close(bench.call(theta, list(lams), directions), theta - total, slips)
    bench.done()


def retain_aware(function) -> None:
    """Checks retain_aware(g, X, delta): g (A + delta mean(diag A) I)^-1, with A = X^T X / N; g,
    (out, in), and X, (N, in), float64, delta above 0. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = ((30, 4, 6), 0.1), ((9, 5, 7), 0.5), ((20, 6, 6), 0.01), ((3, 3, 5), 0.2)
    for seed, ((n, out, width), delta) in enumerate(cases):
        x, g = 0.3 + random_tensor(seed, n, width), random_tensor(seed + 40, out, width)
        a, eye = x.T @ x / n, torch.eye(width, dtype=torch.float64)
        mean, spread = a.diagonal().mean(), torch.cov(x.T, correction=0)
        damped = a + delta * mean * eye
        slips = {
            "multiply by the inverse: what the inputs hold most of shrinks most.": g @ damped,
            "A is a mean over the inputs: divide X^T X by N.": _solved(g, n * damped),
            "delta is taken times the mean of A's diagonal.": _solved(g, a + delta * eye),
            "the mean of the diagonal is meant, not its sum.": _solved(
                g, a + delta * a.trace() * eye
            ),
            "the inputs are not centred: A is the mean of x x^T, not a covariance.": _solved(
                g, spread + delta * spread.diagonal().mean() * eye
            ),
            "damping is added to the diagonal alone: delta mean(diag A) I.": _solved(
                g, a + delta * mean
            ),
        }
        if out == width:
            left = torch.linalg.solve(damped, g)
            slips["multiply from the right: the layer's inputs are the columns of g."] = left
        bench.close(bench.call(g, x, delta), _solved(g, damped), slips)
    bench.done()


def _solved(g: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """g matrix^-1 of a symmetric matrix."""
    return torch.linalg.solve(matrix, g.T).T
