"""Run a tower only from the layer that changes. What lies before it is computed once and kept.

An edit in one block leaves everything before that block as it was, so a probe of the step search needs only what
follows. The results equal those of the whole tower up to the rounding of matrix products.
"""

from __future__ import annotations

from typing import Callable

import torch
import torch.nn.functional as F

from .clip import Clip
from .layers import block_of


def _image_parts(clip: Clip, layer: str) -> tuple[Callable, Callable] | None:
    visual = clip.model.visual
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None or not hasattr(visual, "_embeds") or not hasattr(visual, "_pool") or not visual.transformer.batch_first:
        return None
    last, start = len(blocks), block_of(layer)
    start = last if layer.endswith("visual.proj") else start
    if start < 0:
        return None

    def head(images):
        x = visual._embeds(clip.pixels(images))
        for block in blocks[:start]:
            x = block(x)
        return x if start < last else visual._pool(x)[0]

    def tail(x):
        if start < last:
            for block in blocks[start:]:
                x = block(x)
            x = visual._pool(x)[0]
        return F.normalize(x @ visual.proj if visual.proj is not None else x, dim=-1)
    return head, tail


def _text_parts(clip: Clip, layer: str) -> tuple[Callable, Callable] | None:
    model = clip.model
    if not hasattr(model, "text_pool_type") or not model.transformer.batch_first or not isinstance(model.text_projection, torch.nn.Parameter):
        return None
    from open_clip.transformer import text_global_pool
    blocks, start = model.transformer.resblocks, block_of(layer)
    last = len(blocks)
    start = last if layer == "text_projection" else start
    if start < 0:
        return None

    def pooled(x, tokens):
        return text_global_pool(model.ln_final(x), tokens, model.text_pool_type, eos_token_id=getattr(model, "text_eos_id", None))

    def head(texts):
        tokens = clip.tokens(texts)
        x = model.token_embedding(tokens) + model.positional_embedding
        for block in blocks[:start]:
            x = block(x, attn_mask=model.attn_mask)
        return (x, tokens) if start < last else (pooled(x, tokens), tokens)

    def tail(x, tokens):
        if start < last:
            for block in blocks[start:]:
                x = block(x, attn_mask=model.attn_mask)
            x = pooled(x, tokens)
        return F.normalize(x @ model.text_projection, dim=-1)
    return head, tail


class PartialImages:
    """Pictures whose features are wanted again and again while one layer of the image tower changes.

    The call returns (N, d) float32 features of unit length for the model as it is now. The first call computes what lies
    before the layer. A layer or an architecture that cannot be cut is run as a whole.
    """

    def __init__(self, clip: Clip, images, layer: str, batch_size: int = 0):
        self._clip, self._images, self._batch = clip, images, batch_size or clip.batch
        self._parts, self._kept = _image_parts(clip, layer), None

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        if self._parts is None:
            return self._clip.image_features(self._images, self._batch)
        head, tail = self._parts
        if self._kept is None:
            self._kept = [head(self._images[i:i + self._batch]) for i in range(0, len(self._images), self._batch)]
        return torch.cat([tail(x).float() for x in self._kept])


class PartialTexts:
    """Texts whose features are wanted again and again while one layer of the text tower changes. See PartialImages."""

    def __init__(self, clip: Clip, texts: list[str], layer: str, batch_size: int = 512):
        self._clip, self._texts, self._batch = clip, texts, batch_size
        self._parts, self._kept = _text_parts(clip, layer), None

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        if self._parts is None:
            return self._clip.text_features(self._texts, self._batch)
        head, tail = self._parts
        if self._kept is None:
            self._kept = [head(self._texts[i:i + self._batch]) for i in range(0, len(self._texts), self._batch)]
        return torch.cat([tail(*x).float() for x in self._kept])
