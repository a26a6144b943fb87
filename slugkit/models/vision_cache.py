"""Pictures as a LLaVA's language model sees them, computed again only from the block in which one
layer of the vision tower changes.
"""

from __future__ import annotations

import numpy as np
import torch

from slugkit.data.pictures import PLACE, Pictures
from slugkit.method.layers import block_of
from slugkit.models.memory import room_to_keep
from slugkit.models.reachability import blocks_read
from slugkit.models.vlm import Vlm


def _blocks(tower) -> torch.nn.ModuleList | None:
    """The blocks of a CLIP's vision tower in transformers' class, with or without its upper level;
    None for another tower.
    """
    encoder = getattr(getattr(tower, "vision_model", tower), "encoder", None)
    return getattr(encoder, "layers", None)


class Seen:
    """Pictures whose features are wanted again and again while one layer of the vision tower
    changes.

    images: (N, H, W, 3) uint8, or `Pictures`; equal pictures are computed once. layer: canonical
    name of what changes; None, an embedding, or a model that reads several layers or cuts a picture
    into several computes the whole tower each time, and so does one for which memory does not hold
    (`slugkit.models.memory.room_to_keep`) the pictures x tokens x width numbers that are kept, the
    input of the layer's block.
    """

    def __init__(
        self, vlm: Vlm, images: np.ndarray, layer: str | None = None, batch_size: int = 128
    ):
        self.vlm, self.batch_size = vlm, batch_size
        known: dict = {}
        names = (
            images.places[PLACE].itertuples(index=False, name=None)
            if isinstance(images, Pictures)
            else (image.tobytes() for image in images)
        )
        self._rows = [known.setdefault(name, len(known)) for name in names]
        first = [self._rows.index(number) for number in range(len(known))]
        self._images = (
            images.take(first) if isinstance(images, Pictures) else [images[i] for i in first]
        )
        blocks, read = _blocks(vlm.model.model.vision_tower), vlm.model.config.vision_feature_layer
        cuttable = (
            blocks is not None
            and isinstance(read, int)
            and not vlm.cuts
            and layer is not None
            and block_of(layer) >= 0
        )
        self._after = list(blocks[block_of(layer) : blocks_read(vlm.model)]) if cuttable else None
        self._kept = self._inputs(blocks[block_of(layer)]) if cuttable else None

    def _part(self, i: int) -> dict[str, torch.Tensor]:
        return self.vlm.seen(self._images[i : i + self.batch_size])

    @torch.no_grad()
    def _inputs(self, block: torch.nn.Module) -> list[torch.Tensor] | None:
        """What the block reads of the pictures, batch by batch; None where memory does
        not hold it.
        """
        kept: list[torch.Tensor] = []
        room = room_to_keep(next(block.parameters()).device)
        hook = block.register_forward_pre_hook(
            lambda module, args, kwargs: kept.append(
                (args[0] if args else kwargs["hidden_states"]).clone()
            ),
            with_kwargs=True,
        )
        try:
            for i in range(0, len(self._images), self.batch_size):
                self.vlm.model.model.vision_tower(self._part(i)["pixel_values"])
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
        """Of every picture what the language model sees with the weights as they are: (patches,
        width) each.
        """
        if self._kept is not None:
            found = list(torch.cat([self._from_block(x) for x in self._kept]))
        else:
            read = self.vlm.model.model.get_image_features
            found = [
                each
                for i in range(0, len(self._images), self.batch_size)
                for each in read(**self._part(i), return_dict=True).pooler_output
            ]
        return [found[row] for row in self._rows]
