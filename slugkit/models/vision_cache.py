"""Pictures as a LLaVA's language model sees them, computed again from a block on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from slugkit.data.pictures import PLACE, Pictures
from slugkit.method.layers import block_of
from slugkit.models.memory import room_to_keep
from slugkit.models.reachability import blocks_read
from slugkit.models.vlm import Vlm


def _blocks(tower) -> torch.nn.ModuleList | None:
    """The blocks of a CLIP's vision tower in transformers' class; None for another tower."""
    encoder = getattr(getattr(tower, "vision_model", tower), "encoder", None)
    return getattr(encoder, "layers", None)


class Seen:
    """Pictures whose features are wanted again and again while one layer of the vision tower
    changes.

    images: (N, H, W, 3) uint8, or `Pictures`; equal pictures are computed once. layer: canonical
    name of what changes, whose block's input is kept; None, an embedding, a model that reads
    several layers or cuts a picture into several, or too little memory
    (`slugkit.models.memory.room_to_keep`) computes the whole tower each time.
    """

    def __init__(
        self, vlm: Vlm, images: np.ndarray, layer: str | None = None, batch_size: int = 128
    ):
        self.vlm, self.batch_size = vlm, batch_size
        known: dict = {}
        lazy = isinstance(images, Pictures)
        names = (
            images.places[PLACE].itertuples(index=False, name=None)
            if lazy
            else (image.tobytes() for image in images)
        )
        self._rows = [known.setdefault(name, len(known)) for name in names]
        first = [self._rows.index(number) for number in range(len(known))]
        self._images = images.take(first) if lazy else [images[i] for i in first]
        blocks, read = _blocks(vlm.model.model.vision_tower), vlm.model.config.vision_feature_layer
        start = block_of(layer) if layer is not None else -1
        self._after, self._kept = [], None
        if blocks is not None and isinstance(read, int) and not vlm.cuts and start >= 0:
            self._after = list(blocks[start : blocks_read(vlm.model)])
            self._kept = self._inputs(blocks[start])

    def _parts(self) -> Iterator[dict[str, torch.Tensor]]:
        for i in range(0, len(self._images), self.batch_size):
            yield self.vlm.seen(self._images[i : i + self.batch_size])

    @torch.no_grad()
    def _inputs(self, block: torch.nn.Module) -> list[torch.Tensor] | None:
        """What the block reads of the pictures, batch by batch; None where memory is short."""
        kept: list[torch.Tensor] = []
        room = room_to_keep(next(block.parameters()).device)

        def keep(module, args, kwargs):
            kept.append((args[0] if args else kwargs["hidden_states"]).clone())

        hook = block.register_forward_pre_hook(keep, with_kwargs=True)
        try:
            for part in self._parts():
                self.vlm.model.model.vision_tower(part["pixel_values"])
                if kept[-1][0].nbytes * len(self._images) > room:
                    return None
        finally:
            hook.remove()
        return kept

    def _from_block(self, x: torch.Tensor) -> torch.Tensor:
        for block in self._after:
            x = block(x, None)
        x = x[:, 1:] if self.vlm.model.config.vision_feature_select_strategy == "default" else x
        return self.vlm.model.model.multi_modal_projector(x)

    @torch.no_grad()
    def features(self) -> list[torch.Tensor]:
        """What the language model now sees of each picture: (patches, width)."""
        read, found = self.vlm.model.model.get_image_features, []
        if self._kept is not None:
            found = list(torch.cat([self._from_block(x) for x in self._kept]))
        else:
            for part in self._parts():
                found += read(**part, return_dict=True).pooler_output
        return [found[row] for row in self._rows]
