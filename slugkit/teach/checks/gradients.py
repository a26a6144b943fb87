"""Checks for notebook 02: the two losses and the mean over batches."""

import torch
import torch.nn.functional as F

from slugkit.teach.checks.bench import Bench, random_tensor


def _follows(bench: Bench, loss, inputs) -> None:
    """The loss must hang on its inputs, or no gradient flows."""
    cut = not isinstance(loss, torch.Tensor) or not loss.requires_grad
    bench.hold(
        not cut,
        "the loss is cut off from the features",
        "a tensor that backward() can follow was expected",
        "leave out .item(), float(), .detach() and torch.no_grad().",
    )
    if loss.numel() == 1:
        flows = torch.autograd.grad(loss, inputs, allow_unused=True)
        bench.hold(
            all(g is not None for g in flows),
            "no gradient reaches one of the two feature matrices",
            "both were expected to get one",
            "is one of them detached on the way?",
        )


def _leaf(tensor) -> torch.Tensor:
    return tensor.clone().requires_grad_(True)


def forget_loss(function) -> None:
    """Checks forget_loss(v, t): mean cosine of matching rows of two unnormalised (N, d) matrices, differentiable.
    Raises CheckFailed.
    """
    bench = Bench(function)
    cases = [
        (3 * random_tensor(i, n, d), 0.5 * random_tensor(40 + i, n, d))
        for i, (n, d) in enumerate(((4, 8), (1, 5), (7, 3), (5, 5)))
    ]
    cases += [(cases[0][0], 2 * cases[0][0]), (cases[0][0], -cases[0][0])]
    for v, t in cases:
        a, b = F.normalize(v, dim=1), F.normalize(t, dim=1)
        pairs = (a * b).sum(1)
        slips = {
            "the features are not normalised yet: divide each row by its norm.": (v * t).sum(1).mean(),
            "only one of the two is normalised.": (a * t).sum(1).mean(),
            "only one of the two is normalised (t).": (v * b).sum(1).mean(),
            "this is the sum over the pairs: take the mean, or the loss grows with the set.": pairs.sum(),
            "the sign is turned round: the forget loss is the mean cosine itself, it is to become low.": -pairs.mean(),
            "this is 1 - cos, which stepping down would raise the cosine: take the mean cosine itself.": 1
            - pairs.mean(),
            "this is the mean over all pairs of rows: only matching rows count (the diagonal).": (a @ b.T).mean(),
            "this is a mean over all entries: sum over the features (dim=1) before the mean.": (a * b).mean(),
            "opposite pairs count as -1: no abs here.": pairs.abs().mean(),
            "normalised down the columns: use dim=1, each row is one picture.": (
                F.normalize(v, dim=0) * F.normalize(t, dim=0)
            )
            .sum(1)
            .mean(),
        }
        v, t = _leaf(v), _leaf(t)
        loss = _call_with_graph(bench, v, t)
        bench.close(loss, pairs.mean(), slips)
        _follows(bench, loss, (v, t))
    bench.done()


def _call_with_graph(bench: Bench, v, t, *more):
    """Calls a loss with leaves that need gradients (no copies, or the graph would end in them)."""
    before = (v.detach().clone(), t.detach().clone())
    try:
        loss = bench.function(v, t, *more)
    except NotImplementedError:
        raise
    except Exception as error:
        bench.fail(
            f"it stopped with {type(error).__name__}: {error}",
            "a loss was expected",
            f"v and t have shape {tuple(v.shape)}.",
        )
    if loss is None:
        bench.fail("None came back", "a loss was expected", "is there a return at the end?")
    if not (torch.equal(before[0], v.detach()) and torch.equal(before[1], t.detach())):
        bench.fail(
            "the features were changed",
            "they were to stay as they are",
            "make new tensors instead of writing into v or t.",
        )
    return loss


def retain_loss(function) -> None:
    """Checks retain_loss(v, t, scale): symmetric InfoNCE of normalised (N, d) features, scale = exp(logit scale).
    Raises CheckFailed.
    """
    bench = Bench(function)
    for i, (n, d, scale) in enumerate(((4, 8, 10.0), (6, 3, 2.5), (2, 5, 30.0), (9, 4, 1.0))):
        v, t = F.normalize(random_tensor(i, n, d), dim=1), F.normalize(random_tensor(60 + i, n, d), dim=1)
        logits, right = scale * v @ t.T, torch.arange(n)
        images, texts = F.cross_entropy(logits, right), F.cross_entropy(logits.T, right)
        factor = torch.tensor(scale, dtype=torch.float64)
        hot = factor.exp() * v @ t.T
        slips = {
            "this is the image-to-text half alone: add text-to-image (the transposed logits) and halve.": images,
            "this is the text-to-image half alone: add image-to-text and halve.": texts,
            "this is the sum of both directions: take their mean.": images + texts,
            "the scale is missing: multiply the cosines by it.": (
                F.cross_entropy(logits / scale, right) + F.cross_entropy(logits.T / scale, right)
            )
            / 2,
            "divided by the scale: it multiplies the cosines (scale = 1 / temperature).": (
                F.cross_entropy(logits / scale**2, right) + F.cross_entropy(logits.T / scale**2, right)
            )
            / 2,
            "the exponential was taken twice: scale is exp(logit scale) already.": (
                F.cross_entropy(hot, right) + F.cross_entropy(hot.T, right)
            )
            / 2,
            "summed over the batch: take the mean over the pairs.": n * (images + texts) / 2,
            "the sign is turned round.": -(images + texts) / 2,
            "the softmax stands twice: cross_entropy wants the bare logits.": (
                F.cross_entropy(logits.softmax(1), right) + F.cross_entropy(logits.T.softmax(1), right)
            )
            / 2,
        }
        v, t = _leaf(v), _leaf(t)
        loss = _call_with_graph(bench, v, t, scale)
        bench.close(loss, (images + texts) / 2, slips)
        _follows(bench, loss, (v, t))
    bench.done()


def mean_of_batches(function) -> None:
    """Checks mean_of_batches(batch_means, batch_sizes): the mean over all samples from means over batches. Raises
    CheckFailed.
    """
    bench = Bench(function)
    for seed, (sizes, shape) in enumerate((([4, 4, 4], (3, 2)), ([5, 1], (4,)), ([128, 128, 17], (2, 3)), ([3], (2,)))):
        samples = [random_tensor(10 * seed + i, size, *shape) + i for i, size in enumerate(sizes)]
        means, every = [part.mean(0) for part in samples], torch.cat(samples)
        weighted = sum(size * mean for size, mean in zip(sizes, means, strict=True))
        slips = {
            "this is the plain mean of the batch means: a small last batch then weighs as much as a "
            "full one. Weight by the sizes.": sum(means) / len(means),
            "this is the sum of the batch means: weight each by its size and divide by the number of samples.": sum(
                means
            ),
            "divided by the number of batches: divide by the number of samples.": weighted / len(sizes),
            "not divided: divide by the number of samples.": weighted,
            "the batch means were added unweighted: multiply each by its size.": sum(means) / sum(sizes),
        }
        bench.close(bench.call(means, sizes), every.mean(0), slips)
    bench.done()
