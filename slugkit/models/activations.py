"""What a layer reads: second moments of its inputs, captured while a model of transformers runs
over pictures or texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from slugkit.base import PatchError, wide
from slugkit.data import Pairs
from slugkit.method.layers import tower_of
from slugkit.models.clip import Clip
from slugkit.models.convert import to_transformers
from slugkit.models.weight_map import locate


class Covariance:
    """Running second moment.

    matrix: (d, d) float64, the mean of x x^T over all tokens, where `wide` puts it; count: tokens
    seen.
    """

    def __init__(self):
        self.matrix: torch.Tensor | None = None
        self.count = 0

    def add(self, x: torch.Tensor) -> None:
        """x: (tokens, d), any float dtype."""
        x = wide(x.detach())
        seen, moment = self.count + len(x), x.T @ x
        self.matrix = (
            moment / seen
            if self.matrix is None
            else self.matrix * (self.count / seen) + moment / seen
        )
        self.count = seen


def _modules_of(model, layer: str) -> list[torch.nn.Module]:
    """The modules that apply the layer: one, or those of q, k and v, which share their inputs."""
    place = locate(model, layer.split("[")[0])
    owners = {
        id(module.weight): module
        for module in model.modules()
        if isinstance(getattr(module, "weight", None), torch.Tensor)
    }
    if place is not None and all(id(tensor) in owners for tensor in place.tensors):
        return [owners[id(tensor)] for tensor in place.tensors]
    raise PatchError(
        f"{type(model).__name__} applies no weight {layer!r} in a module of its own; a matrix of"
        " one of its blocks was expected."
    )


def _as_rows(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The inputs as rows that the layer's matrix multiplies: tokens, or the patches that a
    convolution reads.
    """
    if isinstance(module, torch.nn.Conv2d):
        return F.unfold(x, module.kernel_size, stride=module.stride).transpose(1, 2).flatten(0, 1)
    return x.flatten(0, -2)


@contextmanager
def watched(model, layers: list[str]) -> Iterator[dict[str, Covariance]]:
    """Within the block every run of the model adds to the covariances of what the layers read.

    model: a model of transformers that holds a CLIP tower. layers: canonical names. Raises
    PatchError for a layer that it does not apply.
    """
    found = {layer: Covariance() for layer in layers}
    modules = {layer: _modules_of(model, layer)[0] for layer in layers}
    hooks = [
        module.register_forward_pre_hook(
            lambda module, inputs, mine=found[layer]: mine.add(_as_rows(module, inputs[0]))
        )
        for layer, module in modules.items()
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def read_moments(clip: Clip, pairs: Pairs, layers: list[str]) -> dict[str, torch.Tensor]:
    """Second moment A of what each layer reads of the pairs: of the captions in the text tower, of
    the pictures in the vision tower.

    Captions are read from their first token to their end token: what follows does not reach CLIP's
    answer (causal mask). Runs the CLIP in transformers' class, whose modules apply one matrix each.

    Returns:
        layer -> (in, in) float64.

    Raises:
        ModelLoadError: for an architecture that transformers' class does not hold.
        PatchError: for a weight that no module of it applies.
    """
    model = to_transformers(clip.model).to(clip.device)
    found: dict[str, torch.Tensor] = {}
    mine = {tower: [n for n in layers if tower_of(n) == tower] for tower in ("text", "vision")}
    if mine["text"]:
        tokens = clip.tokens(pairs.captions)
        lengths = tokens.argmax(-1) + 1
        with watched(model, mine["text"]) as seen:
            for length in sorted(set(lengths.tolist())):
                for part in torch.split(tokens[lengths == length][:, :length], 256):
                    model.get_text_features(part)
        found |= {layer: each.matrix for layer, each in seen.items()}
    if mine["vision"]:
        with watched(model, mine["vision"]) as seen:
            for i in range(0, len(pairs), clip.batch):
                model.get_image_features(clip.pixels(pairs.images[i : i + clip.batch]))
        found |= {layer: each.matrix for layer, each in seen.items()}
    return {layer: found[layer] for layer in layers}
