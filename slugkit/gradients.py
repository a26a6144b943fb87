"""The two gradients of the method: one over the forget set, one over the retain set, each taken once.

Sign: g_f is the gradient of the mean cosine of the pairs to forget, so that theta - lambda * g_f lowers it (design,
section 4; the paper writes the same step with the negated loss).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.base import EmptySetError, GradientError, SettingError, progress
from slugkit.data import Pairs
from slugkit.models import Clip


def mean_cosine(v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Forget loss: the mean cosine of matching pairs. v, t: (N, d), any length. Returns a scalar, -1..1 (paper, section 3.2)."""
    return F.cosine_similarity(v, t, dim=-1).mean()


def info_nce(v: torch.Tensor, t: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Retain loss: symmetric InfoNCE over the batch. v, t: (N, d) of unit length; scale = exp(logit scale). Returns a scalar >= 0."""
    logits = scale * v @ t.T
    labels = torch.arange(len(v), device=v.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def forget_loss(clip: Clip, batch: Pairs) -> torch.Tensor:
    """Mean cosine of the batch's pictures with their captions."""
    return mean_cosine(clip.model.encode_image(clip.pixels(batch.images)), clip.model.encode_text(clip.tokens(batch.captions)))


def retain_loss(clip: Clip, batch: Pairs) -> torch.Tensor:
    """Symmetric InfoNCE of the batch with its true captions."""
    v = clip.model.encode_image(clip.pixels(batch.images), normalize=True)
    t = clip.model.encode_text(clip.tokens(batch.captions), normalize=True)
    return info_nce(v, t, clip.model.logit_scale.exp())


def batches(pairs: Pairs, batch_size: int) -> list[Pairs]:
    """The pairs in order, `batch_size` at a time; the last may be shorter."""
    return [pairs.take(range(i, min(i + batch_size, len(pairs)))) for i in range(0, len(pairs), batch_size)]


def distinct_batches(labels: list[str], batch_size: int, seed: int = 0) -> list[list[int]]:
    """Rows in batches of at most `batch_size` in which no label occurs twice, so that InfoNCE's negatives are negatives.

    Each row, in a seeded order, goes to the first batch that has room and not yet its label; batches of a single row are
    dropped, since InfoNCE has nothing to compare there.
    """
    order = np.random.Generator(np.random.PCG64([seed, 13])).permutation(len(labels))
    filled: list[tuple[set, list[int]]] = []
    for row in order.tolist():
        for seen, rows in filled:
            if len(rows) < batch_size and labels[row] not in seen:
                break
        else:
            seen, rows = set(), []
            filled.append((seen, rows))
        seen.add(labels[row])
        rows.append(row)
    return [sorted(rows) for _, rows in filled if len(rows) > 1]


def mean_gradient(model: torch.nn.Module, loss_fn: Callable[[Pairs], torch.Tensor], parts: Iterable[Pairs],
                  what: str = "gradient", weights: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
    """Gradient of the loss averaged over samples. Returns {parameter name: float32 tensor shaped like the weight}.

    loss_fn maps a batch to its mean loss. Gradients are cleared before each batch and afterwards; the model's weights stay
    as they are. weights: names of the parameters that are wanted, which is faster where they are in one tower; None takes all that learn. Raises GradientError,
    naming the layer, when a gradient is not finite; EmptySetError without a batch.
    """
    seen = 0
    with _only(model, weights) as wanted:
        total = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in wanted.items()}
        for batch in progress(list(parts), what):
            model.zero_grad(set_to_none=True)
            loss_fn(batch).backward()
            seen += len(batch)
            for name, w in wanted.items():
                if w.grad is not None:
                    total[name] += len(batch) * w.grad.float()
        model.zero_grad(set_to_none=True)
    if not seen:
        raise EmptySetError(f"There is no batch to take the {what} over; expected at least two pairs with distinct captions.")
    mean = {name: g / seen for name, g in total.items()}
    check_finite(mean, what)
    return mean


@contextmanager
def _only(model: torch.nn.Module, weights: Iterable[str] | None) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Within the block these parameters alone learn; yields them by name. None leaves all as they are."""
    named = dict(model.named_parameters())
    learn = {name: w.requires_grad for name, w in named.items()}
    wanted = named if weights is None else {name: named[name] for name in weights}
    try:
        for name, w in named.items():
            w.requires_grad_(learn[name] and name in wanted)
        yield wanted
    finally:
        for name, w in named.items():
            w.requires_grad_(learn[name])


def check_finite(gradient: dict[str, torch.Tensor], what: str = "gradient") -> None:
    """Raise GradientError naming the first layer whose gradient holds NaN or infinity."""
    for name, g in gradient.items():
        if not torch.isfinite(g).all():
            bad = int((~torch.isfinite(g)).sum())
            raise GradientError(f"The {what} of layer {name!r} has {bad} entries that are not finite; expected numbers. Look for "
                                "broken pictures in the set, or compute in float32.")


def forget_gradient(clip: Clip, pairs: Pairs, batch_size: int = 128, weights: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
    """g_f = grad of the mean cosine over the forget set. The batch size does not change it but for rounding. weights: as of `mean_gradient`."""
    return mean_gradient(clip.model, lambda batch: forget_loss(clip, batch), batches(pairs, batch_size), "forget gradient", weights)


def retain_gradient(clip: Clip, pairs: Pairs, batch_size: int = 128, seed: int = 0) -> dict[str, torch.Tensor]:
    """g_r = grad of InfoNCE over the retain set in micro-batches of distinct captions. The batch size is part of its definition."""
    parts = [pairs.take(rows) for rows in distinct_batches(pairs.labels, batch_size, seed)]
    return mean_gradient(clip.model, lambda batch: retain_loss(clip, batch), parts, "retain gradient")


def off_span(direction: torch.Tensor, covariance: torch.Tensor, energy: float) -> torch.Tensor:
    """The part of a step direction that does nothing to the inputs the retain set spans: d (I - U U^T).

    direction: (out, ...) of a layer that multiplies its inputs from the left. covariance: (d, d) second moment of the retain set's
    inputs, d = the product of the other axes. energy: 0 to 1; U holds the leading eigenvectors that carry this share of it, 0
    none of them. Returns a tensor shaped like `direction`, float32. Raises SettingError, GradientError where nothing is left.
    """
    if not 0 <= energy < 1:
        raise SettingError(f"energy is {energy}; a share of 0 or more and less than 1 was expected: at 1 no direction is left.")
    values, vectors = torch.linalg.eigh(covariance.double())
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    before = torch.cat([values.new_zeros(1), values.cumsum(0)[:-1]]) / values.sum().clamp(min=1e-300)
    span = vectors[:, before < energy] if energy else vectors[:, :0]
    flat = direction.detach().flatten(1).double()
    left = flat - (flat @ span) @ span.T
    if not float(left.norm()) > 1e-9 * float(flat.norm()):
        raise GradientError(f"nothing of the direction is left off the span of the retain set's inputs at energy {energy}; take a smaller one.")
    return left.float().reshape(direction.shape)


def preconditioned(direction: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor | None = None, damping: float = 0.1) -> torch.Tensor:
    """The step direction that the retain set feels least for what it does to the forget loss: P(d) = (G + damping g I)^-1 d (A + damping a I)^-1.

    Of all steps D of a layer with the same first-order effect <d, D> it has the smallest tr(D A D^T G), the mean square by which the step moves
    the retain set's answers to first order, plus the damping's share of its own size: K-FAC's approximation of the Fisher matrix by two
    factors (Martens and Grosse 2015), softer than `off_span` where inputs fill the whole space. direction d: (out, ...). inputs A: (in, in), second
    moment of what the layer reads of the retain set; outputs G: (out, out), that of the gradients of what it puts out; None leaves G out. a, g: their
    mean diagonal entries. damping: above 0, large keeps the direction as it is. Returns a tensor of the shape and the norm of `direction`,
    float32. Raises SettingError.
    """
    return _as_long_as(_through(direction, inputs, outputs, damping), direction)


def counterweighted(forget: torch.Tensor, retain: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor | None = None, damping: float = 0.1,
                    weight: float = 2.0) -> torch.Tensor:
    """The preconditioned forget gradient with the retain gradient as a counterweight: P(g_f) - weight max(0, <g_r, P(g_f)>) / <g_r, P(g_r)> P(g_r).

    Where forgetting one pushes all alike (say, towards "I don't know"), both gradients point the same way. At weight 0 it is `preconditioned`; at 1 a step
    leaves the retain set's mean as it is to first order; at 2 it raises that mean as much as P(g_f) would have lowered it, which pays for the second
    order, in which every step lowers it. Where the two point apart nothing is taken off. forget, retain: (out, ...), gradients of two quantities that both fall with what the model knows (mean
    log odds of the right answer); the rest as of `preconditioned`. Returns a tensor of the shape and the norm of `forget`, float32. Raises SettingError.
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise SettingError(f"the counterweight is {weight}; 0 or more was expected, such as 2.")
    p_f, p_r, g_r = _through(forget, inputs, outputs, damping), _through(retain, inputs, outputs, damping), retain.detach().flatten(1).double()
    overlap = (g_r * p_f).sum().clamp(min=0) / (g_r * p_r).sum().clamp(min=1e-300)
    return _as_long_as(p_f - weight * overlap * p_r, forget)


def _through(direction: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor | None, damping: float) -> torch.Tensor:
    """P(d) of `preconditioned`: (out, in) float64."""
    if not damping > 0:
        raise SettingError(f"damping is {damping}; a number above 0 was expected, such as 0.1.")
    found = torch.linalg.solve(_damped(inputs, damping), direction.detach().flatten(1).double().T).T
    return found if outputs is None else torch.linalg.solve(_damped(outputs, damping), found)


def _damped(moment: torch.Tensor, damping: float) -> torch.Tensor:
    moment = moment.double()
    return moment + damping * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)


def _as_long_as(found: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """`found` in the shape and with the norm of `direction`, float32."""
    return (found * (direction.double().norm() / found.norm().clamp(min=1e-300))).float().reshape(direction.shape)
