"""Run a tower only from the layer that changes. What lies before it is computed once and kept.

An edit in one block leaves everything before that block as it was, so a probe of the step search
needs only what follows; and of the last block only the token that is pooled. The results equal
those of the whole tower up to the rounding of matrix products. A layer or an architecture that
cannot be cut is run as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.method.layers import block_of
from slugkit.models.clip import Clip
from slugkit.models.memory import room_to_keep
from slugkit.models.precision import multiplying

WHOLE = -1
"""Where an edit of the embedding starts: nothing before it can be kept."""


def _only_first_token(block, x: torch.Tensor) -> torch.Tensor:
    """A block's output at the first token alone, (N, L, width) -> (N, 1, width): the others are
    only looked at.
    """
    seen = block.ln_1(x)
    x = x[:, :1] + block.ls_1(block.attention(seen[:, :1], seen, seen))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


class CutImages:
    """Pictures whose features are wanted again and again while one layer of the image tower
    changes.

    One pass over the pictures gives `features`, (N, d) float32 of unit length, of the model as it
    is then, and keeps the input of every block in which one of `layers` lies: N x tokens x width
    numbers a block, of as many blocks as memory allows (`slugkit.models.memory.room_to_keep`).
    Another block's input is computed when it is first asked for and takes the place of the one that
    was kept longest; where memory does not hold a single one, pictures run through the whole tower.
    """

    def __init__(
        self, clip: Clip, images: np.ndarray, layers: Iterable[str] = (), batch_size: int = 0
    ):
        self._clip, self._images, self._batch = clip, images, batch_size or clip.batch
        if isinstance(images, np.ndarray):
            self._images = clip.resized(images)  # once, not for every probe
        visual = clip.model.visual
        self._blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
        self.cuttable = (
            self._blocks is not None
            and hasattr(visual, "_embeds")
            and hasattr(visual, "_pool")
            and visual.transformer.batch_first
        )
        self._short = (
            self.cuttable
            and visual.attn_pool is None
            and visual.pool_type == "tok"
            and all(
                hasattr(self._blocks[-1], part) for part in ("attention", "ln_1", "ls_1", "ls_2")
            )
        )
        self._kept: dict[int, torch.Tensor] = {}
        self._room = room_to_keep(clip.device)
        self.features = self._first_pass(
            list(dict.fromkeys(self.start(layer) for layer in layers if self.start(layer) != WHOLE))
        )

    def start(self, layer: str) -> int:
        """The block from which an edit of the layer matters; the number of blocks for the
        projection; WHOLE if none.
        """
        if not self.cuttable:
            return WHOLE
        return len(self._blocks) if layer == "visual.proj" else block_of(layer)

    @torch.no_grad()
    @multiplying()
    def _first_pass(self, starts: list[int]) -> torch.Tensor:
        """The features; keeps the inputs of the blocks `starts`, the first ones of them where
        memory does not hold all.
        """
        if not self.cuttable:
            return self._clip.image_features(self._images, self._batch)
        parts, kept = [], {start: [] for start in starts}
        for i in range(0, len(self._images), self._batch):
            x, at = (
                self._clip.model.visual._embeds(
                    self._clip.pixels(self._images[i : i + self._batch])
                ),
                0,
            )
            size = x[0].nbytes * len(self._images)
            kept = {start: pieces for start, pieces in list(kept.items())[: self._room // size]}
            for start in sorted(kept):
                x, at = self._through(x, at, start), start
                kept[start].append(x)
            parts.append(self._finish(x, at))
        self._kept |= {start: torch.cat(pieces) for start, pieces in kept.items()}
        while sum(x.nbytes for x in self._kept.values()) > self._room:
            del self._kept[next(iter(self._kept))]
        return torch.cat(parts) if parts else torch.zeros(0, 1)

    def _through(self, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Through the blocks first..last-1; past the last block only the pooled token goes on,
        where that is enough.
        """
        for number in range(first, last):
            short = self._short and number == len(self._blocks) - 1
            x = _only_first_token(self._blocks[number], x) if short else self._blocks[number](x)
        return x

    def _finish(self, x: torch.Tensor, start: int) -> torch.Tensor:
        visual = self._clip.model.visual
        x = visual._pool(self._through(x, start, len(self._blocks)))[0]
        return F.normalize(x @ visual.proj if visual.proj is not None else x, dim=-1).float()

    @torch.no_grad()
    @multiplying()
    def again(self, layer: str, rows: np.ndarray) -> torch.Tensor:
        """(n, d) float32 features of these rows for the model as it is now, with the layer changed
        and nothing else.

        The first call for a layer that was not named at the start computes what lies before it.
        """
        start, rows = self.start(layer), np.asarray(rows)
        if not self.cuttable:
            return self._clip.image_features(self._images[rows], self._batch)
        if start != WHOLE and start not in self._kept:
            self._first_pass([start])
        parts = [rows[i : i + self._batch] for i in range(0, len(rows), self._batch)]
        kept = self._kept.get(start)
        if kept is not None:
            return torch.cat(
                [
                    self._finish(kept[torch.from_numpy(part).to(kept.device)], start)
                    for part in parts
                ]
            )
        return torch.cat(
            [
                self._finish(
                    self._clip.model.visual._embeds(self._clip.pixels(self._images[part])), 0
                )
                for part in parts
            ]
        )


class CutTexts:
    """Texts whose features are wanted again and again while one layer of the text tower changes.

    Texts are cut after the longest one's end token: with a causal mask nothing behind it is ever
    looked at. The call returns (N, d) float32 features of unit length for the model as it is now;
    the first computes what lies before the layer, and keeps of it what memory allows
    (`slugkit.models.memory.room_to_keep`).
    """

    def __init__(self, clip: Clip, texts: list[str], layer: str, batch_size: int = 512):
        self._clip, self._texts, self._batch = clip, texts, batch_size
        model = clip.model
        self.cuttable = (
            hasattr(model, "text_pool_type")
            and model.transformer.batch_first
            and isinstance(model.text_projection, torch.nn.Parameter)
        )
        self._blocks = model.transformer.resblocks if self.cuttable else []
        self._start = len(self._blocks) if layer == "text_projection" else block_of(layer)
        self.cuttable = self.cuttable and self._start != WHOLE
        self._kept: dict[int, tuple[torch.Tensor, torch.Tensor]] | None = None

    def _tokens(self, texts: list[str]) -> torch.Tensor:
        tokens, model = self._clip.tokens(texts), self._clip.model
        if model.attn_mask is None or model.text_pool_type != "argmax":
            return tokens
        return tokens[:, : int(tokens.argmax(-1).max()) + 1]

    def _through(self, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
        mask = self._clip.model.attn_mask
        mask = None if mask is None else mask[: x.shape[1], : x.shape[1]]
        for block in self._blocks[first:last]:
            x = block(x, attn_mask=mask)
        return x

    def _pooled(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        from open_clip.transformer import text_global_pool

        model = self._clip.model
        return text_global_pool(
            model.ln_final(x),
            tokens,
            model.text_pool_type,
            eos_token_id=getattr(model, "text_eos_id", None),
        )

    def _head(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, model = self._tokens(texts), self._clip.model
        x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
        x = self._through(x, 0, self._start)
        return (self._pooled(x, tokens) if self._start == len(self._blocks) else x), tokens

    def _tail(self, x: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        if self._start < len(self._blocks):
            x = self._pooled(self._through(x, self._start, len(self._blocks)), tokens)
        return F.normalize(x @ self._clip.model.text_projection, dim=-1).float()

    @torch.no_grad()
    @multiplying()
    def __call__(self) -> torch.Tensor:
        if not self.cuttable:
            return self._clip.text_features(self._texts, self._batch)
        if self._kept is None:
            self._kept, room = {}, room_to_keep(self._clip.device)
            for i in range(0, len(self._texts), self._batch):
                piece = self._head(self._texts[i : i + self._batch])
                room -= piece[0].nbytes
                if room < 0:
                    break
                self._kept[i] = piece
        starts = range(0, len(self._texts), self._batch)
        return torch.cat(
            [
                self._tail(*(self._kept.get(i) or self._head(self._texts[i : i + self._batch])))
                for i in starts
            ]
        )
