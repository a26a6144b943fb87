"""Checks for notebook 02: the two losses and the mean over batches."""

import torch
import torch.nn.functional as F

from slugkit.workbook.teach.checks.bench import Bench, random_tensor


def _check_loss(bench: Bench, v, t, more: tuple, wanted, slips: dict) -> None:
    """One call of a loss: its value, and that a gradient flows back to both feature matrices."""
    leaves = tuple(x.clone().requires_grad_(True) for x in (v, t))
    loss = bench.call(*leaves, *more, copies=False)
    bench.close(loss, wanted, slips)
    bench.hold(
        isinstance(loss, torch.Tensor) and loss.requires_grad,
        "the loss is cut off from the features",
        "a tensor that backward() can follow was expected",
        "leave out .item(), float(), .detach() and torch.no_grad().",
    )
    flows = torch.autograd.grad(loss, leaves, allow_unused=True)
    bench.hold(
        all(g is not None for g in flows),
        "no gradient reaches one of the two feature matrices",
        "both were expected to get one",
        "is one of them detached on the way?",
    )


def forget_loss(function) -> None:
    """Checks forget_loss(v, t): mean cosine of matching rows of two unnormalised (N, d) matrices,
    differentiable. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = [
        (3 * random_tensor(i, n, d), 0.5 * random_tensor(40 + i, n, d))
        for i, (n, d) in enumerate(((4, 8), (1, 5), (7, 3), (5, 5)))
    ]
    cases += [(cases[0][0], 2 * cases[0][0]), (cases[0][0], -cases[0][0])]
    for v, t in cases:
        a, b = F.normalize(v, dim=1), F.normalize(t, dim=1)
        down = F.normalize(v, dim=0) * F.normalize(t, dim=0)
        pairs = (a * b).sum(1)
        slips = {
            "the features are not normalised yet: divide each row by its norm.": (
                (v * t).sum(1).mean()
            ),
            "only one of the two is normalised.": (a * t).sum(1).mean(),
            "only one of the two is normalised (t).": (v * b).sum(1).mean(),
            "this is the sum: take the mean, or the loss grows with the set.": pairs.sum(),
            "the sign is turned round: the mean cosine itself is to become low.": -pairs.mean(),
            "this is 1 - cos, which a step down raises: take the mean cosine.": 1 - pairs.mean(),
            "these are all pairs of rows: only matching ones count (the diagonal).": (
                (a @ b.T).mean()
            ),
            "a mean over all entries: sum over the features (dim=1) before it.": (a * b).mean(),
            "opposite pairs count as -1: no abs here.": pairs.abs().mean(),
            "normalised down the columns: use dim=1, a row is a picture.": down.sum(1).mean(),
        }
        _check_loss(bench, v, t, (), pairs.mean(), slips)
    bench.done()


def retain_loss(function) -> None:
    """Checks retain_loss(v, t, scale): symmetric InfoNCE of normalised (N, d) features, scale =
    exp(logit scale). Raises CheckFailed.
    """
    bench = Bench(function)
    for i, (n, d, scale) in enumerate(((4, 8, 10.0), (6, 3, 2.5), (2, 5, 30.0), (9, 4, 1.0))):
        v = F.normalize(random_tensor(i, n, d), dim=1)
        t = F.normalize(random_tensor(60 + i, n, d), dim=1)
        logits, right = scale * v @ t.T, torch.arange(n)
        images, texts = F.cross_entropy(logits, right), F.cross_entropy(logits.T, right)
        both = (images + texts) / 2

        def contrast(factor: torch.Tensor | float, v=v, t=t, right=right) -> torch.Tensor:
            logits = factor * v @ t.T
            return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

        soft = (logits.softmax(1), logits.T.softmax(1))
        slips = {
            "this is the image-to-text half alone: add text-to-image and halve.": images,
            "this is the text-to-image half alone: add image-to-text and halve.": texts,
            "this is the sum of both directions: take their mean.": images + texts,
            "the scale is missing: multiply the cosines by it.": contrast(1.0),
            "divided by the scale: it multiplies the cosines.": contrast(1 / scale),
            "the exponential was taken twice: scale is exp(logit scale) already.": contrast(
                torch.tensor(scale, dtype=torch.float64).exp()
            ),
            "summed over the batch: take the mean over the pairs.": n * both,
            "the sign is turned round.": -both,
            "the softmax stands twice: cross_entropy wants the bare logits.": sum(
                F.cross_entropy(twice, right) / 2 for twice in soft
            ),
        }
        _check_loss(bench, v, t, (scale,), both, slips)
    bench.done()


def mean_of_batches(function) -> None:
    """Checks mean_of_batches(batch_means, batch_sizes): the mean over all samples from means over
    batches. Raises CheckFailed.
    """
    bench = Bench(function)
    cases = ([4, 4, 4], (3, 2)), ([5, 1], (4,)), ([128, 128, 17], (2, 3)), ([3], (2,))
    for seed, (sizes, shape) in enumerate(cases):
        samples = [random_tensor(10 * seed + i, size, *shape) + i for i, size in enumerate(sizes)]
        means, every = [part.mean(0) for part in samples], torch.cat(samples)
        total, count = sum(means), len(means)
        weighted = sum(size * mean for size, mean in zip(sizes, means, strict=True))
        slips = {
            "this is the plain mean of the batch means: weight a small batch less.": total / count,
            "this is the sum of the batch means: weight by size, divide by the samples.": total,
            "divided by the number of batches: divide by that of samples.": weighted / count,
            "not divided: divide by the number of samples.": weighted,
            "the batch means were added unweighted: multiply by the sizes.": total / sum(sizes),
        }
        bench.close(bench.call(means, sizes), every.mean(0), slips)
    bench.done()
