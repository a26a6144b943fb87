"""What is differentiated: the forget loss, the retain loss, and the micro-batches they are taken over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.base import EmptySetError, SettingError, require_choice
from slugkit.data import Pairs
from slugkit.models import Clip

KINDS = ("forget", "retain")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Name -> what autocast computes the towers' products in; None leaves them in the weights' own type."""


def mean_cosine(v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Forget loss: the mean cosine of matching pairs. v, t: (N, d), any length. Returns a scalar, -1..1 (paper, section 3.2)."""
    return F.cosine_similarity(v, t, dim=-1).mean()


def info_nce(v: torch.Tensor, t: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
    """Retain loss: symmetric InfoNCE over the batch. v, t: (N, d) of unit length; scale = exp(logit scale). Returns a scalar >= 0."""
    logits = scale * v @ t.T
    labels = torch.arange(len(v), device=v.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def sigmoid_loss(v: torch.Tensor, t: torch.Tensor, scale: torch.Tensor | float, bias: torch.Tensor | float) -> torch.Tensor:
    """Retain loss of a SigLIP: for every pair of the batch whether picture and caption belong together, -1/N sum_ij log sigmoid(z_ij (s v_i t_j + b)).

    v, t: (N, d) of unit length; scale = exp(logit scale); bias: logit bias; z is 1 for matching pairs, -1 for others. Returns a scalar >= 0 (Zhai et al. 2023,
    "Sigmoid Loss for Language Image Pre-Training", section 3.2).
    """
    signs = 2 * torch.eye(len(v), device=v.device) - 1
    return -F.logsigmoid(signs * (scale * v @ t.T + bias)).sum(1).mean()


def encoded(clip: Clip, batch: Pairs, precision: str = "fp32") -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the batch's pictures and captions before they are brought to unit length: two (N, d) float32.

    precision: a key of `PRECISIONS`. In bf16 and fp16 the towers run under autocast, their weights stay as they are, and everything after the
    towers (cosine, softmax) is computed in float32.
    """
    filters = (m.weight.dtype for m in clip.model.visual.modules() if isinstance(m, torch.nn.Conv2d))
    pixels = clip.pixels(batch.images).to(next(filters, torch.float32))  # a model in half precision reads half-precision pixels
    with torch.autocast(clip.device.type, dtype=PRECISIONS[precision], enabled=precision != "fp32"):
        v, t = clip.model.encode_image(pixels), clip.model.encode_text(clip.tokens(batch.captions))
    return v.float(), t.float()


def _contrast(clip: Clip, v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The loss that the model was trained with, from features of any length: InfoNCE, or a SigLIP's own."""
    v, t, scale = F.normalize(v, dim=-1), F.normalize(t, dim=-1), clip.model.logit_scale.float().exp()
    return info_nce(v, t, scale) if clip.bias is None else sigmoid_loss(v, t, scale, clip.model.logit_bias.float())


def forget_loss(clip: Clip, batch: Pairs, precision: str = "fp32") -> torch.Tensor:
    """Mean cosine of the batch's pictures with their captions. precision: as of `encoded`."""
    return mean_cosine(*encoded(clip, batch, precision))


def retain_loss(clip: Clip, batch: Pairs, precision: str = "fp32") -> torch.Tensor:
    """Symmetric InfoNCE (of a SigLIP: its sigmoid loss) of the batch with its true captions. precision: as of `encoded`."""
    return _contrast(clip, *encoded(clip, batch, precision))


@dataclass(frozen=True)
class ChunkedRetainLoss:
    """The retain loss of a whole micro-batch whose activations never lie in memory together; only `backward` is offered.

    The features of all pairs are computed without a graph, then the loss's gradient with respect to the features, and last each `chunk` of pairs is
    encoded again and its part of that gradient sent through the towers: the gradient of the whole micro-batch for one more forward pass (gradient
    caching, Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). The model must be in eval mode, since both passes must
    give the same features. factor: what the loss is multiplied by, as `2 * loss` does.
    """

    clip: Clip
    batch: Pairs
    chunk: int
    precision: str = "fp32"
    factor: float = 1.0

    def __rmul__(self, factor: float) -> "ChunkedRetainLoss":
        return replace(self, factor=factor * self.factor)

    def backward(self) -> None:
        """Add the gradient to the parameters' `.grad`, as a loss tensor's own `backward` does."""
        parts = batches(self.batch, self.chunk)
        with torch.no_grad():
            features = [encoded(self.clip, part, self.precision) for part in parts]
        v, t = (torch.cat(side).requires_grad_() for side in zip(*features, strict=True))
        (self.factor * _contrast(self.clip, v, t)).backward()
        for part, *pulls in zip(parts, v.grad.split(self.chunk), t.grad.split(self.chunk), strict=True):
            learning = [(x, pull) for x, pull in zip(encoded(self.clip, part, self.precision), pulls, strict=True) if x.requires_grad]
            torch.autograd.backward(*zip(*learning, strict=True))


def batches(pairs: Pairs, batch_size: int) -> list[Pairs]:
    """The pairs in order, `batch_size` at a time; the last may be shorter."""
    return [pairs.take(range(i, min(i + batch_size, len(pairs)))) for i in range(0, len(pairs), batch_size)]


def distinct_batches(labels: list[str], batch_size: int, seed: int = 0) -> list[list[int]]:
    """Rows in batches of at most `batch_size` in which no label occurs twice, so that InfoNCE's
    negatives are negatives.

    Each row, in a seeded order, goes to the first batch that has room and not yet its label;
    batches of a single row are dropped, since InfoNCE has nothing to compare there. Raises
    EmptySetError where no batch is left.
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
    found = [sorted(rows) for _, rows in filled if len(rows) > 1]
    if not found:
        only = labels[0].split("|")[0] if labels else "nothing"
        raise EmptySetError(
            f"The retain set ({len(labels)} pairs) shows {only!r} alone; at least two classes, or "
            "pairs with distinct captions, beside the concept were expected, since InfoNCE tells "
            "them apart. Add pictures of something else: data with two classes leave one to retain."
        )
    return found


def micro_batches(pairs: Pairs, kind: str, batch_size: int = 128, seed: int = 0, chunk: int | None = None) -> list[Pairs]:
    """The micro-batches of a gradient. kind: "forget", in order and at most `chunk` pairs each, or "retain", of distinct captions by `seed`."""
    if kind == "forget":
        return batches(pairs, min(batch_size, chunk or batch_size))
    return [pairs.take(rows) for rows in distinct_batches(pairs.labels, batch_size, seed)]


def loss_of(clip: Clip, kind: str, precision: str = "fp32", chunk: int | None = None) -> Callable[[Pairs], torch.Tensor | ChunkedRetainLoss]:
    """What maps a micro-batch to its loss. kind: "forget" or "retain"; the others as of `retain_gradient`. Raises SettingError for what is out of range."""
    require_choice(kind, KINDS, "The gradient")
    require_choice(precision, PRECISIONS, "The precision")
    if chunk is not None and chunk < 1:
        raise SettingError(f"chunk is {chunk}; a number of pairs, 1 or more, was expected, or None for the whole micro-batch at once.")
    if kind == "forget":
        return lambda batch: forget_loss(clip, batch, precision)
    if chunk is None:
        return lambda batch: retain_loss(clip, batch, precision)
    return lambda batch: ChunkedRetainLoss(clip, batch, chunk, precision) if len(batch) > chunk else retain_loss(clip, batch, precision)
