"""Which layers act in a model that holds a CLIP's tower: a changed one changes its output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch

from slugkit.base import PatchError
from slugkit.method.layers import block_of, tower_of
from slugkit.models.weight_map import EncoderOf, Place, locate, part_of

PROMPT = "a photo of a cat next to a red house"
"""Within 16 tokens, the studio's limit: diffusers warns of each longer one."""
FEATURE_LAYERS = "vision_feature_layer", "vision_feature_layers"
"""Names of one entry of a LLaVA's configuration; the plural is VipLLaVA's, in published files too.
"""
STRETCH = 1.5
"""What a weight is multiplied by for a look."""
_KNOWN: WeakKeyDictionary = WeakKeyDictionary()
"""Encoder or model -> (layer, what it reads by) -> whether the layer acts: one look each."""


def feature_layers(config: Any) -> int | list[int] | None:
    """After which block or blocks of its vision tower a LLaVA reads the picture, by its
    configuration; None where it says nothing, as what is no LLaVA.
    """
    said = (getattr(config, name, None) for name in FEATURE_LAYERS)
    return next((found for found in said if found is not None), None)


def blocks_read(model: Any) -> int | None:
    """How many blocks of its vision tower a LLaVA runs, by its configuration, if it says so."""
    config = getattr(model, "config", None)
    read = feature_layers(config)
    if read is None:
        return None
    depth = config.vision_config.num_hidden_layers
    return max(n if n >= 0 else depth + 1 + n for n in ([read] if isinstance(read, int) else read))


def reading(model: Any) -> Callable[[], list[torch.Tensor]] | None:
    """What the model makes of one fixed prompt, or of one fixed picture of noise, as a call; None
    for a tower alone, which is read by others.

    model: a pipeline of diffusers (or one of its encoders as `EncoderOf`): what its UNet or
    transformer is given; a LLaVA: what its language model is given.
    """
    pipe = model.pipeline if isinstance(model, EncoderOf) else model
    if hasattr(pipe, "encode_prompt"):
        how = {"device": _device(pipe.text_encoder), "num_images_per_prompt": 1}
        return lambda: _tensors(
            pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False, **how)
        )
    if hasattr(model, "get_image_features") and feature_layers(model.config) is not None:
        return lambda: _tensors(
            model.get_image_features(**_noise(model), return_dict=True).pooler_output
        )
    return None


def _device(model: torch.nn.Module) -> torch.device:
    """Where the model computes, also where accelerate keeps its weights elsewhere."""
    for module in model.modules():
        device = getattr(getattr(module, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return next(model.parameters()).device


def _noise(model: Any) -> dict[str, torch.Tensor]:
    """One picture of noise for `get_image_features`; LLaVA-NeXT takes several cuts."""
    size, weight = model.config.vision_config.image_size, next(model.parameters())
    grids = getattr(model.config, "image_grid_pinpoints", None)
    cuts = (1 + max(h // size * (w // size) for h, w in grids),) if grids else ()
    noise = torch.randn(1, *cuts, 3, size, size, generator=torch.Generator().manual_seed(0))
    sizes = {"image_sizes": torch.tensor([[size, size]])} if cuts else {}
    return {"pixel_values": noise.to(_device(model), weight.dtype), **sizes}


def _tensors(made: Any) -> list[torch.Tensor]:
    if isinstance(made, torch.Tensor):
        return [made.detach().clone()]
    return [t for part in made if part is not None for t in _tensors(part)]


def _uncompiled() -> AbstractContextManager:
    """Within the block a compiled encoder is run as it is written. torch's compiler takes a second
    to load, and nothing is compiled where nobody has loaded it.
    """
    loaded = "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if loaded else nullcontext()


@torch.no_grad()
def _acts(place: Place, read: Callable, untouched: Callable) -> bool:
    """Whether the output differs while the weight is stretched; it is put back, bit for bit."""
    with _uncompiled():
        before, own = untouched(), place.read()
        try:
            place.write(own * STRETCH)
            after = read()
        finally:
            place.write(own)
    return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _is_behind(layer: str, blocks: int | None) -> bool:
    """Whether a weight lies behind the block after which a LLaVA reads the picture."""
    if blocks is None or tower_of(layer) == "text":
        return False
    return block_of(layer) >= blocks or layer.startswith(("visual.ln_post", "visual.proj"))


def unused_layers(model: Any, layers: list[str]) -> dict[str, str]:
    """The layers among `layers` whose edit cannot act in the model, each with the reason: it does
    not hold them, or never reads them.

    A pipeline or a LLaVA is run, once as it is and once for each layer that was not looked at
    before; of a tower alone and of files only what they hold and say counts.
    """
    read, blocks, reasons = reading(model), blocks_read(model), {}
    untouched = cache(read) if read else None
    known = _KNOWN.setdefault(getattr(model, "text_encoder", model), {}) if read else {}
    read_by = str(feature_layers(getattr(model, "config", None)))
    name = type(model.pipeline if isinstance(model, EncoderOf) and read else model).__name__
    for layer in layers:
        whole = layer.split("[")[0]
        place, looked = locate(model, whole), (whole, read_by)
        if place is None:
            reasons[layer] = f"{type(model).__name__} does not use it"
        elif read is None and _is_behind(whole, blocks):
            reasons[layer] = f"{name} reads the picture after block {blocks - 1}, before it"
        elif read is not None:
            if looked not in known:
                known[looked] = _acts(place, read, untouched)
            if not known[looked]:
                reasons[layer] = (
                    f"{name} never reads it: its output is the same when the layer is changed"
                )
    return reasons


def acting_part(clip_model: torch.nn.Module, other: Any, layer: str) -> Any:
    """The part of `other` that holds the CLIP's tower, such as one of several text encoders.

    Raises PatchError where the layer cannot act in it. layer: a whole weight.
    """
    part = part_of(clip_model, other, tower_of(layer))
    unused = unused_layers(part, [layer])
    if unused:
        raise PatchError(
            f"An edit of layer {layer} cannot act: {unused[layer]}. Nothing was changed. Choose a"
            " layer that acts there."
        )
    return part


@contextmanager
def movable(
    clip_model: torch.nn.Module, other: Any, layer: str
) -> Iterator[tuple[torch.Tensor, Callable[[], None]]]:
    """Within the block a layer of `other` can be moved; afterwards it is as before, bit for bit.

    Yields a copy of its whole weight, canonical and in `other`'s own type, to be moved as a patch
    moves it, and a function that writes the copy as it is by then.
    clip_model: tells which of several text encoders is meant. Raises PatchError, before anything is
    changed, where the layer cannot act in `other`.
    """
    name = layer.split("[")[0]
    place = locate(acting_part(clip_model, other, name), name)
    own = place.read()
    copy = own.clone()
    try:
        yield copy, lambda: place.write(copy)
    finally:
        place.write(own)
