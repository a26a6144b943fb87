"""Checks of formulas on numbers and tensors: the method's scores, losses, gradients and steps."""

import math

import torch
import torch.nn.functional as F

from slugkit.workbook.teach.checks.engine import exercise

SHAPES = [(4, 4), (3, 7), (8, 2), (5,), (4, 3, 2, 2)]
"""Shapes a weight can have: square, wide, tall, a vector, a convolution."""
NONE = torch.tensor(math.nan)
"""What no answer equals."""


def random_tensor(seed: int, *shape: int) -> torch.Tensor:
    """A float64 tensor of standard normal numbers, the same for the same seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(*cases: tuple) -> list[tuple]:
    """The cases, with a random tensor in the place of each shape (a tuple)."""
    return [
        tuple(
            random_tensor(100 * i + j, *part) if isinstance(part, tuple) else part
            for j, part in enumerate(case)
        )
        for i, case in enumerate(cases)
    ]


def _cosine(a, b) -> torch.Tensor:
    a, b = a.flatten(), b.flatten()
    return a @ b / (a.norm() * b.norm())


VECTORS = drawn(*zip([(3,), (8,), (64,)], [(3,), (8,), (64,)]))
A, B, EYE = random_tensor(1, 8), random_tensor(2, 4, 4), torch.eye(4, dtype=torch.float64)


@exercise([*VECTORS, (A, 3.5 * A), (A, -A / 2), (EYE[0], EYE[2])])
def cosine(a, b):
    """Checks cosine(a, b): cosine of two vectors (d,), float64, -1..1."""
    dot, value, norms = a @ b, _cosine(a, b), a.norm() * b.norm()
    return value, {
        "this is the bare dot product: divide by both norms.": dot,
        "divided by one norm only: divide by that of b too.": dot / a.norm(),
        "divided by one norm only: divide by that of a too.": dot / b.norm(),
        "the norms look squared: sum of squares needs its square root.": dot / norms**2,
        "opposite vectors have cosine -1: leave the sign, no abs here.": value.abs(),
        "the sign is turned round.": -value,
        "divide by the product of the norms, not by their sum.": dot / (a.norm() + b.norm()),
        "this is 1 - cosine, a distance.": 1 - value,
    }


NEVER = "compare each step with the formula above; a cosine is never above 1."


@exercise([*drawn(*zip(SHAPES, SHAPES)), (B, 4 * B), (B, -B / 4), (A, -A)], otherwise=NEVER)
def alignment(g_f, g_r):
    """Checks alignment(g_f, g_r): |cosine| of two gradients of one shape, flattened, 0..1."""
    dot, value, a, b = (g_f * g_r).sum(), _cosine(g_f, g_r), g_f.norm(), g_r.norm()
    rows = F.cosine_similarity(g_f.flatten(1), g_r.flatten(1)) if g_f.ndim > 1 else NONE
    return value.abs(), {
        "a cosine can be negative: take its absolute value.": value,
        "the sign is turned round; take the absolute value.": -value,
        "this is the bare dot product: divide by both norms.": dot,
        "this is the absolute dot product: divide by both norms.": dot.abs(),
        "divided by one norm only: divide by both.": dot.abs() / a,
        "divided by one norm only, that of g_r: divide by both.": dot.abs() / b,
        "the norms look squared: was a root left out?": value.abs() / (a * b),
        "this is 1 - |cos|; small alignment is to mean little harm.": 1 - value.abs(),
        "this is a mean over rows: flatten both into one long vector.": rows.mean().abs(),
        "this is a mean of |cos| over rows: flatten both first.": rows.abs().mean(),
    }


FEATURES = [(4, 8), (2, 5), (7, 3), (5, 5)]
PAIRS = drawn(*zip(FEATURES, FEATURES))


@exercise([*PAIRS, (B, 2 * B), (B, -B)], loss=True)
def forget_loss(v, t):
    """Checks forget_loss(v, t): mean cosine of the rows of two (N, d) matrices, differentiable."""
    a, b = F.normalize(v, dim=1), F.normalize(t, dim=1)
    down = F.normalize(v, dim=0) * F.normalize(t, dim=0)
    pairs, bare = (a * b).sum(1), (v * t).sum(1).mean()
    return pairs.mean(), {
        "the features are not normalised yet: divide each row by its norm.": bare,
        "only one of the two is normalised.": (a * t).sum(1).mean(),
        "only one of the two is normalised (t).": (v * b).sum(1).mean(),
        "this is the sum: take the mean, or the loss grows with the set.": pairs.sum(),
        "the sign is turned round: the mean cosine itself is to become low.": -pairs.mean(),
        "this is 1 - cos, which a step down raises: take the mean cosine.": 1 - pairs.mean(),
        "all pairs of rows: only matching ones count (the diagonal).": (a @ b.T).mean(),
        "a mean over all entries: sum over the features (dim=1) before it.": (a * b).mean(),
        "opposite pairs count as -1: no abs here.": pairs.abs().mean(),
        "normalised down the columns: use dim=1, a row is a picture.": down.sum(1).mean(),
    }


def _halves(logits) -> torch.Tensor:
    """InfoNCE from images to texts, and from texts to images."""
    right = torch.arange(len(logits))
    return torch.stack([F.cross_entropy(way, right) for way in (logits, logits.T)])


SCALES = 10.0, 2.5, 30.0, 1.0
CONTRASTS = [(F.normalize(v), F.normalize(t), s) for (v, t), s in zip(PAIRS, SCALES)]


@exercise(CONTRASTS, loss=True)
def retain_loss(v, t, scale):
    """Checks retain_loss(v, t, scale): symmetric InfoNCE of normalised (N, d) features."""
    cosines = v @ t.T
    images, texts = _halves(scale * cosines)
    both, twice = (images + texts) / 2, math.exp(scale) * cosines
    soft = [(scale * x).softmax(1) for x in (cosines, cosines.T)]
    right = torch.arange(len(v))
    return both, {
        "this is the image-to-text half alone: add text-to-image and halve.": images,
        "this is the text-to-image half alone: add image-to-text and halve.": texts,
        "this is the sum of both directions: take their mean.": images + texts,
        "the scale is missing: multiply the cosines by it.": _halves(cosines).mean(),
        "divided by the scale: it multiplies the cosines.": _halves(cosines / scale).mean(),
        "exp was taken twice: scale is exp(logit scale) already.": _halves(twice).mean(),
        "summed over the batch: take the mean over the pairs.": len(v) * both,
        "the sign is turned round.": -both,
        "the softmax stands twice: cross_entropy wants the bare logits.": sum(
            F.cross_entropy(x, right) / 2 for x in soft
        ),
    }


BATCHES = ([4, 4, 4], (3, 2)), ([5, 1], (4,)), ([128, 128, 17], (2, 3)), ([3], (2,))
BATCHES = [([random_tensor(n, *shape) for n in range(len(x))], x) for x, shape in BATCHES]


@exercise(BATCHES)
def mean_of_batches(batch_means, batch_sizes):
    """Checks mean_of_batches(batch_means, batch_sizes): the mean over all samples."""
    plain, count, samples = sum(batch_means), len(batch_means), sum(batch_sizes)
    weighted = sum(size * mean for size, mean in zip(batch_sizes, batch_means))
    return weighted / samples, {
        "this is the plain mean of the batch means: weight a small batch less.": plain / count,
        "this is the sum of the batch means: weight by size, divide by the samples.": plain,
        "divided by the number of batches: divide by that of samples.": weighted / count,
        "not divided: divide by the number of samples.": weighted,
        "the batch means were added unweighted: multiply by the sizes.": plain / samples,
    }


@exercise(drawn(*((shape, shape, lam) for shape in SHAPES for lam in (0.3, 2.0, 0.0))))
def one_step(theta, g_f, lam):
    """Checks one_step(theta, g_f, lam): theta - lam * g_f as a new tensor; theta stays."""
    step, unit = lam * g_f, lam * g_f / g_f.norm()
    return theta - step, {
        "the step goes uphill: subtract, or the forget loss grows.": theta + step,
        "lam is missing: the gradient is to be multiplied by it.": theta - g_f,
        "this is the change alone: subtract it from theta.": step,
        "this is the change alone, with its sign: add it to theta.": -step,
        "the gradient was normalised first: lam multiplies it as it is.": theta - unit,
        "lam is read as a relative step: it multiplies g_f itself.": theta - unit * theta.norm(),
        "theta is scaled too: only the gradient is multiplied by lam.": lam * (theta - g_f),
        "only the signs of the gradient were used.": theta - lam * g_f.sign(),
    }


GUIDES = ((2, 4, 3, 3), 4.0), ((1, 4, 8, 8), 1.0), ((3, 2, 5, 5), 7.5), ((2, 1, 2, 2), 0.0)


@exercise(drawn(*((shape, shape, scale) for shape, scale in GUIDES)))
def guided(empty, named, scale):
    """Checks guided(empty, named, scale): classifier-free guidance, empty + scale (named - empty)
    (Ho and Salimans 2022, equation 6, in the form of Stable Diffusion).
    """
    step = scale * (named - empty)
    return empty + step, {
        "the step starts at named: start at empty and go scale times to named.": named + step,
        "the two are swapped: the direction is from empty to named.": empty - step,
        "this adds named itself: add the difference of the two.": empty + scale * named,
        "(1 - scale) stands on the wrong one: at scale 1 the answer is named.": named - step,
        "the scale is missing: it says how far to go.": named,
        "this is the step alone: add it to empty.": step,
    }


def _without(theta, steps, i):
    """The weight with all steps but the i-th taken, in their order."""
    for number, step in enumerate(steps):
        theta = theta if number == i else theta - step
    return theta


STEPS = [3.0**n * random_tensor(n, 4, 5).float() for n in range(6)]
WEIGHT = random_tensor(90, 4, 5).float()


@exercise([(WEIGHT, STEPS[: 3 + i], i) for i in range(4)], tolerance=0.0)
def take_one_off(theta0, steps, i):
    """Checks take_one_off(theta0, steps, i): theta0 minus the other steps, bit for bit."""
    every = _without(theta0, steps, -1)
    others = sum(step for number, step in enumerate(steps) if number != i)
    return _without(theta0, steps, i), {
        "adding the step back rounds once more: start again from theta0.": every + steps[i],
        "this carries all the steps: one of them is to be left out.": every,
        "this carries the one step: that is the one to leave out.": theta0 - steps[i],
        "subtract the steps one after the other: their sum is rounded otherwise.": theta0 - others,
        "the steps are subtracted: theta - step.": _without(theta0, [-s for s in steps], i),
        "the last step is missing, not the i-th.": _without(theta0, steps, len(steps) - 1),
        "count from 0: steps[i] is the one to leave out.": _without(theta0, steps, i - 1),
    }


@exercise(drawn(*((shape, shape, 0.3 + i) for i, shape in enumerate(SHAPES[:4]))))
def side_effect(g_i, d_j, lam_j):
    """Checks side_effect(g_i, d_j, lam_j): minus lam_j times the dot product of g_i and d_j."""
    dot = (g_i * d_j).sum()
    return -lam_j * dot, {
        "the edit subtracts lam * d, so the change has a minus.": lam_j * dot,
        "this is a cosine: do not divide by the norms.": -lam_j * _cosine(g_i, d_j),
        "a long step changes more: multiply by lam_j.": -dot,
        "do not divide by lam_j: the change is proportional to it.": -dot / lam_j,
        "the change is a sum over the entries, not their mean.": -lam_j * dot / g_i.numel(),
        "the product has a sign: no absolute value.": -lam_j * dot.abs(),
        "this is the effect of an edit along g_i itself; take d_j.": -lam_j * (g_i * g_i).sum(),
        "this is the effect of j's edit along d_j alone; take g_i too.": -lam_j * (d_j * d_j).sum(),
    }


LAYERS = ((4, 6), (30, 6), 0.1), ((5, 7), (9, 7), 0.5), ((6, 6), (20, 6), 0.01)
LAYERS = drawn(*LAYERS, ((3, 5), (3, 5), 0.2))


@exercise(LAYERS, inputs=2)
def felt(d, x, _):
    """Checks felt(d, x): the mean over the inputs x of ||d x||^2."""
    moved = x @ d.T
    right = moved.square().sum(1).mean()
    return right, {
        "divide by the number of inputs: it is a mean over x.": moved.square().sum(),
        "one number an input: sum over the outputs first.": moved.square().mean(),
        "the norm is to be squared.": moved.norm(dim=1).mean(),
        "square first, then take the mean: this is ||d mean(x)||^2.": moved.mean(0).square().sum(),
        "this is the root of it: the mean square was asked for.": right.sqrt(),
        "the inputs do not come in: this is ||d||^2.": d.square().sum(),
    }


def _solved(g, matrix) -> torch.Tensor:
    """g matrix^-1 of a symmetric matrix."""
    return torch.linalg.solve(matrix, g.T).T


@exercise([(g, 0.3 + x, delta) for g, x, delta in LAYERS])
def retain_aware(g, x, delta):
    """Checks retain_aware(g, X, delta): g (A + delta mean(diag A) I)^-1, A = X^T X / N."""
    a, eye = x.T @ x / len(x), torch.eye(x.shape[1], dtype=torch.float64)
    centred = torch.cov(x.T, correction=0)
    damping, spread = delta * a.diagonal().mean(), delta * centred.diagonal().mean()
    damped, trace, square = a + damping * eye, delta * a.trace(), g.shape[0] == g.shape[1]
    left = torch.linalg.solve(damped, g) if square else NONE
    return _solved(g, damped), {
        "multiply by the inverse: what the inputs hold most of shrinks most.": g @ damped,
        "A is a mean over the inputs: divide X^T X by N.": _solved(g, len(x) * damped),
        "delta is taken times the mean of A's diagonal.": _solved(g, a + delta * eye),
        "the mean of the diagonal is meant, not its sum.": _solved(g, a + trace * eye),
        "A is not centred: a mean of x x^T, no covariance.": _solved(g, centred + spread * eye),
        "damping goes to the diagonal alone: delta mean(diag A) I.": _solved(g, a + damping),
        "multiply from the right: the layer's inputs are the columns of g.": left,
    }
