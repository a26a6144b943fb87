"""Checks for notebook 08: the steps of several patches on one weight, and a direction taken off a span."""

import torch

from slugkit.teach.checks.bench import Bench, random_tensor


def added_steps(function) -> None:
    """Checks added_steps(theta, lams, directions): theta minus the sum of lam_i * direction_i, two lists of one length, float64. Raises CheckFailed."""
    bench = Bench(function)
    for seed, shape, lams in ((0, (4, 6), (2.0,)), (1, (5, 3), (0.5, 1.5)), (2, (3, 3), (1.0, 0.25, 4.0)), (3, (6, 2), ())):
        theta = random_tensor(seed, *shape)
        directions = [random_tensor(10 * seed + k, *shape) for k in range(20, 20 + len(lams))]
        parts = [lam * direction for lam, direction in zip(lams, directions)]
        total = sum(parts, torch.zeros_like(theta))
        slips = {}
        if parts:
            slips = {"the step is subtracted: theta - lam * direction.": theta + total, "every step starts from the weight as it is, none is left out: take off all of them.": theta - parts[-1],
                     "this is the change alone: take it off theta.": total}
        if len(parts) > 1:
            slips |= {"the steps are added up, not averaged.": theta - total / len(parts), "only the first step was made: take off all of them.": theta - parts[0],
                      "each direction has a lam of its own.": theta - lams[0] * sum(directions)}
        bench.close(bench.call(theta, list(lams), directions), theta - total, slips)
    bench.done()


def off_the_span(function) -> None:
    """Checks off_the_span(d, X, k): d, (out, in), without its part along the k leading right singular vectors of X, (N, in); float64. Raises CheckFailed."""
    bench = Bench(function)
    for seed, (n, out, width), k in ((0, (30, 4, 6), 2), (1, (9, 5, 7), 3), (2, (20, 6, 6), 1), (3, (12, 3, 5), 4)):
        x = random_tensor(seed, n, width) @ torch.diag(torch.linspace(3.0, 0.2, width, dtype=torch.float64))
        d = random_tensor(seed + 40, out, width)
        u = torch.linalg.svd(x, full_matrices=False).Vh.T
        span, small = u[:, :k], u[:, -k:]
        slips = {"this is the part along the span: subtract it from d.": d @ span @ span.T,
                 "these are the smallest singular vectors: the leading ones carry what X holds.": d - d @ small @ small.T,
                 "one vector more than k was taken.": d - d @ u[:, :k + 1] @ u[:, :k + 1].T,
                 "take off d U U^T; with one U alone the shape is that of the coordinates.": d @ span}
        if out == width:
            slips["multiply from the right: the layer's inputs are the columns of d."] = d - span @ span.T @ d
        bench.close(bench.call(d, x, k), d - d @ span @ span.T, slips)
    bench.done()
