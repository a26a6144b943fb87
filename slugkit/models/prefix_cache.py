"""Run a tower only from the layer that changes. What lies before it is computed once and kept.

An edit in one block leaves everything before that block as it was, so a probe of the step search
needs only what follows; and of a CLIP's last block only the token that is pooled. The results equal
those of the whole tower up to the rounding of matrix products. What is kept is bounded by
`slugkit.models.memory.room_to_keep`; a layer or an architecture that cannot be cut is run as a
whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.data.pictures import PLACE, Pictures
from slugkit.method.layers import block_of
from slugkit.models.clip import Clip
from slugkit.models.memory import room_to_keep
from slugkit.models.precision import multiplying
from slugkit.models.reachability import blocks_read, feature_layers
from slugkit.models.vlm import Vlm

WHOLE = -1
"""Where an edit of the embedding starts: nothing before it can be kept."""


def _only_first_token(block, x: torch.Tensor) -> torch.Tensor:
    """A block's output at the first token alone, (N, L, width) -> (N, 1, width)."""
    seen = block.ln_1(x)
    x = x[:, :1] + block.ls_1(block.attention(seen[:, :1], seen, seen))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


class CutImages:
    """Pictures whose features are wanted again and again while one layer of the image tower
    changes.

    One pass over the pictures gives `features`, (N, d) float32 of unit length, of the model as it
    is then, and keeps the input of the blocks in which `layers` lie. Another block's input takes
    the place of the one that was kept longest.
    """

    def __init__(
        self, clip: Clip, images: np.ndarray, layers: Iterable[str] = (), batch_size: int = 0
    ):
        from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

        self._clip, self._images, self._batch = clip, images, batch_size or clip.batch
        if isinstance(images, np.ndarray):
            self._images = clip.resized(images)  # once, not for every probe
        visual = clip.model.visual
        self._cuttable = isinstance(visual, VisionTransformer) and visual.transformer.batch_first
        self._blocks = visual.transformer.resblocks if self._cuttable else []
        first_token = self._cuttable and visual.attn_pool is None and visual.pool_type == "tok"
        self._short = first_token and isinstance(self._blocks[-1], ResidualAttentionBlock)
        self._kept: dict[int, torch.Tensor] = {}
        self._room = room_to_keep(clip.device)
        starts = dict.fromkeys(self._start(layer) for layer in layers)
        self.features = self._first_pass([start for start in starts if start != WHOLE])

    def _start(self, layer: str) -> int:
        """The block from which a layer matters; their number for the projection; WHOLE if none."""
        if not self._cuttable:
            return WHOLE
        return len(self._blocks) if layer == "visual.proj" else block_of(layer)

    @torch.no_grad()
    @multiplying()
    def _first_pass(self, starts: list[int]) -> torch.Tensor:
        """The features; keeps the inputs of the first of the blocks `starts` that memory holds."""
        if not self._cuttable:
            return self._clip.image_features(self._images, self._batch)
        parts, kept = [], {start: [] for start in starts}
        for i in range(0, len(self._images), self._batch):
            x, at = self._embedded(slice(i, i + self._batch)), 0
            most = self._room // (x[0].nbytes * len(self._images))
            kept = dict(list(kept.items())[:most])
            for start in sorted(kept):
                x, at = self._through(x, at, start), start
                kept[start].append(x)
            parts.append(self._finish(x, at))
        self._kept |= {start: torch.cat(pieces) for start, pieces in kept.items()}
        while sum(x.nbytes for x in self._kept.values()) > self._room:
            del self._kept[next(iter(self._kept))]
        return torch.cat(parts) if parts else torch.zeros(0, 1)

    def _embedded(self, rows: slice | np.ndarray) -> torch.Tensor:
        return self._clip.model.visual._embeds(self._clip.pixels(self._images[rows]))

    def _through(self, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Through the blocks first..last-1, of the last one with the pooled token alone."""
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
        """(n, d) float32 features of these rows, with the layer changed and nothing else."""
        start, rows = self._start(layer), np.asarray(rows)
        if not self._cuttable:
            return self._clip.image_features(self._images[rows], self._batch)
        if start != WHOLE and start not in self._kept:
            self._first_pass([start])
        kept, found = self._kept.get(start), []
        for i in range(0, len(rows), self._batch):
            part = rows[i : i + self._batch]
            if kept is None:
                found.append(self._finish(self._embedded(part), 0))
            else:
                found.append(self._finish(kept[torch.from_numpy(part).to(kept.device)], start))
        return torch.cat(found)


class _Cut:
    """What runs through a tower in batches again and again. `_head(i)`: what lies before the layer
    that changes, of the batch from row i on; it is kept as far as memory allows.
    """

    _kept: dict[int, tuple[torch.Tensor, ...]] | None = None

    def _heads(self, starts: range, device: torch.device) -> Iterator[tuple[torch.Tensor, ...]]:
        if self._kept is None:
            self._kept, room = {}, room_to_keep(device)
            for i in starts:
                head = self._head(i)
                room -= head[0].nbytes
                if room < 0:
                    break
                self._kept[i] = head
        for i in starts:
            yield self._kept.get(i) or self._head(i)


class CutTexts(_Cut):
    """Texts whose features are wanted again and again while one layer of the text tower changes.

    Texts are cut after the longest one's end token: with a causal mask nothing behind it is ever
    looked at. The call returns (N, d) float32 features of unit length for the model as it is now.
    """

    def __init__(self, clip: Clip, texts: list[str], layer: str, batch_size: int = 512):
        self._clip, self._texts, self._batch = clip, texts, batch_size
        model = clip.model
        self._cuttable = (
            hasattr(model, "text_pool_type")
            and model.transformer.batch_first
            and isinstance(model.text_projection, torch.nn.Parameter)
        )
        self._blocks = model.transformer.resblocks if self._cuttable else []
        self._start = len(self._blocks) if layer == "text_projection" else block_of(layer)
        self._cuttable = self._cuttable and self._start != WHOLE

    def _through(
        self, x: torch.Tensor, tokens: torch.Tensor, first: int, last: int
    ) -> torch.Tensor:
        """Through the blocks first..last-1; past the last block only the pooled token goes on."""
        from open_clip.transformer import text_global_pool

        model = self._clip.model
        mask = model.attn_mask
        mask = None if mask is None else mask[: tokens.shape[1], : tokens.shape[1]]
        for block in self._blocks[first:last]:
            x = block(x, attn_mask=mask)
        if last < len(self._blocks) or x.ndim == 2:
            return x
        end = getattr(model, "text_eos_id", None)
        return text_global_pool(model.ln_final(x), tokens, model.text_pool_type, eos_token_id=end)

    def _head(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the layer's block reads of a batch of texts, and their tokens."""
        model = self._clip.model
        tokens = self._clip.tokens(self._texts[i : i + self._batch])
        if model.attn_mask is not None and model.text_pool_type == "argmax":
            tokens = tokens[:, : int(tokens.argmax(-1).max()) + 1]
        x = model.token_embedding(tokens) + model.positional_embedding[: tokens.shape[1]]
        return self._through(x, tokens, 0, self._start), tokens

    @torch.no_grad()
    @multiplying()
    def __call__(self) -> torch.Tensor:
        if not self._cuttable:
            return self._clip.text_features(self._texts, self._batch)
        found = []
        for x, tokens in self._heads(range(0, len(self._texts), self._batch), self._clip.device):
            x = self._through(x, tokens, self._start, len(self._blocks))
            found.append(F.normalize(x @ self._clip.model.text_projection, dim=-1).float())
        return torch.cat(found)


class Seen(_Cut):
    """Pictures as a LLaVA's language model sees them, wanted again and again while one layer of the
    vision tower changes.

    images: (N, H, W, 3) uint8, or `Pictures`; equal pictures are computed once. layer: canonical
    name of what changes; with None, an embedding, or a model that reads several layers or cuts a
    picture into several the whole tower is computed each time.
    """

    def __init__(
        self, vlm: Vlm, images: np.ndarray, layer: str | None = None, batch_size: int = 128
    ):
        self._vlm, self._batch, known = vlm, batch_size, {}
        if lazy := isinstance(images, Pictures):
            names = images.places[PLACE].itertuples(index=False, name=None)
        else:
            names = (image.tobytes() for image in images)
        self._rows = [known.setdefault(name, len(known)) for name in names]
        first = [self._rows.index(number) for number in range(len(known))]
        self._images = images.take(first) if lazy else [images[i] for i in first]
        tower, read = vlm.model.model.vision_tower, feature_layers(vlm.model.config)
        self._tower, self._start = getattr(tower, "vision_model", tower), block_of(layer or "")
        clips, one_read = hasattr(self._tower, "pre_layrnorm"), isinstance(read, int)
        self._cuttable = clips and one_read and not vlm.cuts and self._start != WHOLE
        self._blocks = self._tower.encoder.layers if self._cuttable else []

    def _seen(self, i: int) -> dict[str, torch.Tensor]:
        return self._vlm.seen(self._images[i : i + self._batch])

    def _head(self, i: int) -> tuple[torch.Tensor]:
        """What the layer's block reads of a batch of pictures."""
        x = self._tower.pre_layrnorm(self._tower.embeddings(self._seen(i)["pixel_values"]))
        for block in self._blocks[: self._start]:
            x = block(x, None)
        return (x,)

    def _finish(self, x: torch.Tensor) -> torch.Tensor:
        for block in self._blocks[self._start : blocks_read(self._vlm.model)]:
            x = block(x, None)
        x = x[:, 1:] if self._vlm.model.config.vision_feature_select_strategy == "default" else x
        return self._vlm.model.model.multi_modal_projector(x)

    @torch.no_grad()
    def features(self) -> list[torch.Tensor]:
        """What the language model now sees of each picture: (patches, width)."""
        starts, found = range(0, len(self._images), self._batch), []
        if self._cuttable:
            heads = self._heads(starts, next(self._tower.parameters()).device)
            found = list(torch.cat([self._finish(x) for (x,) in heads]))
        else:
            for i in starts:
                read = self._vlm.model.model.get_image_features
                found += read(**self._seen(i), return_dict=True).pooler_output
        return [found[row] for row in self._rows]
