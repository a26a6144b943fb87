"""What is differentiated: the forget loss, the retain loss, and the micro-batches they are taken
over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.base import SettingError, require_choice
from slugkit.data import Pairs
from slugkit.method.losses import distinct_batches, info_nce, mean_cosine, sigmoid_loss
from slugkit.models import Clip
from slugkit.models.precision import PRECISIONS

KINDS = ("forget", "retain")


@dataclass(frozen=True)
class Batch:
    """Pairs that go through the towers together: images (n, size, size, 3) uint8, of the size that
    the model reads; tokens (n, context) int64; sizes: pairs of each micro-batch among them, in
    order.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    sizes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.images)

    def split(self, size: int) -> list[Batch]:
        """The pairs `size` at a time, each part a batch of its own."""
        pieces = zip(self.images.split(size), self.tokens.split(size), strict=True)
        return [Batch(images, tokens, (len(images),)) for images, tokens in pieces]


def batch_of(clip: Clip, pairs: Pairs, micro_batches: Sequence[Sequence[int]] = ()) -> Batch:
    """What the towers read of some pairs: pictures decoded and resized, captions cut into tokens;
    pinned for a GPU. micro_batches: rows of `pairs`; none takes all as one micro-batch.
    """
    rows = [row for rows in micro_batches for row in rows]
    chosen = np.asarray(rows) if rows else slice(None)
    captions = pairs.table["caption"].iloc[chosen].tolist()
    images = torch.from_numpy(np.ascontiguousarray(clip.resized(pairs.images[chosen])))
    images = images.pin_memory() if clip.device.type == "cuda" else images
    sizes = tuple(len(rows) for rows in micro_batches) or (len(images),)
    return Batch(images, clip.tokens(captions), sizes)


def encoded(clip: Clip, batch: Batch, precision: str = "fp32") -> tuple[torch.Tensor, torch.Tensor]:
    """Features of pictures and captions before they are brought to unit length: two (N, d) float32.

    In bf16 and fp16 the towers run under autocast, their weights stay as they are, and everything
    after the towers is computed in float32.
    """
    half = PRECISIONS[precision]
    with torch.autocast(clip.device.type, dtype=half, enabled=half is not None):
        v = clip.model.encode_image(clip.pixels(batch.images))
        t = clip.model.encode_text(batch.tokens)
    return v.float(), t.float()


def _contrast(clip: Clip, v: torch.Tensor, t: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """The loss that the model was trained with, InfoNCE or a SigLIP's own, from features of any
    length: the mean over all pairs of the losses of their micro-batches (`sizes`, in order).
    """
    v, t = F.normalize(v, dim=-1), F.normalize(t, dim=-1)
    scale, total, start = clip.model.logit_scale.float().exp(), 0.0, 0
    for size, alike in groupby(sizes):
        rows = slice(start, start + size * len(list(alike)))
        a, b = (x[rows].unflatten(0, (-1, size)) for x in (v, t))
        if clip.bias is None:
            loss = info_nce(a, b, scale)
        else:
            loss = sigmoid_loss(a, b, scale, clip.model.logit_bias.float())
        total, start = total + loss * ((rows.stop - rows.start) / len(v)), rows.stop
    return total


def forget_loss(clip: Clip, pairs: Pairs, precision: str = "fp32") -> torch.Tensor:
    """Mean cosine of pictures with their captions. precision: as of `encoded`."""
    return loss_of(clip, "forget", precision)(batch_of(clip, pairs))


def retain_loss(clip: Clip, pairs: Pairs, precision: str = "fp32") -> torch.Tensor:
    """Symmetric InfoNCE (of a SigLIP: its sigmoid loss) of pairs with their true captions."""
    return loss_of(clip, "retain", precision)(batch_of(clip, pairs))


@dataclass(frozen=True)
class ChunkedRetainLoss:
    """The retain loss of a whole micro-batch whose activations never lie in memory together; only
    `backward` is offered.

    Gradient caching (Gao et al. 2021): features without a graph, the loss's gradient with respect
    to them, then each `chunk` of pairs encoded again and its part of that gradient sent through the
    towers. The model must be in eval mode. factor: what the loss is multiplied by.
    """

    clip: Clip
    batch: Batch
    chunk: int
    precision: str = "fp32"
    factor: float = 1.0

    def __rmul__(self, factor: float) -> ChunkedRetainLoss:
        return replace(self, factor=factor * self.factor)

    def backward(self) -> None:
        """Add the gradient to the parameters' `.grad`, as a loss tensor's own `backward` does."""
        parts = self.batch.split(self.chunk)
        with torch.no_grad():
            features = [encoded(self.clip, part, self.precision) for part in parts]
        v, t = (torch.cat(side).requires_grad_() for side in zip(*features, strict=True))
        (self.factor * _contrast(self.clip, v, t, self.batch.sizes)).backward()
        pulls = zip(v.grad.split(self.chunk), t.grad.split(self.chunk), strict=True)
        for part, pull in zip(parts, pulls, strict=True):
            found = zip(encoded(self.clip, part, self.precision), pull, strict=True)
            learning = [(x, g) for x, g in found if x.requires_grad]
            torch.autograd.backward(*zip(*learning, strict=True))


def batches(pairs: Pairs, batch_size: int) -> list[Pairs]:
    """The pairs in order, `batch_size` at a time; the last may be shorter."""
    return [pairs.take(rows) for rows in micro_batches(pairs, "forget", batch_size)]


def micro_batches(
    pairs: Pairs, kind: str, batch_size: int = 128, seed: int = 0, chunk: int | None = None
) -> list[list[int]]:
    """Rows of the micro-batches of a gradient: of "forget" in order and at most `chunk` each, of
    "retain" with distinct captions by `seed`.
    """
    if kind == "forget":
        size = min(batch_size, chunk or batch_size)
        return [list(range(i, min(i + size, len(pairs)))) for i in range(0, len(pairs), size)]
    return distinct_batches(pairs.labels, batch_size, seed)


def loss_of(
    clip: Clip, kind: str, precision: str = "fp32", chunk: int | None = None
) -> Callable[[Batch], torch.Tensor | ChunkedRetainLoss]:
    """A micro-batch -> its loss; arguments as of `retain_gradient`. Raises SettingError."""
    require_choice(kind, KINDS, "The gradient")
    require_choice(precision, PRECISIONS, "The precision")
    if chunk is not None and chunk < 1:
        raise SettingError(
            f"chunk is {chunk}; a number of pairs, 1 or more, was expected, or None for the whole"
            " micro-batch at once."
        )
    if kind == "forget":
        return lambda batch: mean_cosine(*encoded(clip, batch, precision))

    def retain(batch: Batch) -> torch.Tensor | ChunkedRetainLoss:
        if chunk is not None and chunk < max(batch.sizes):
            return ChunkedRetainLoss(clip, batch, chunk, precision)
        return _contrast(clip, *encoded(clip, batch, precision), batch.sizes)

    return retain
