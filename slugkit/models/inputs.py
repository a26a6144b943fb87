"""What a layer reads: the covariance of its inputs, captured while a model of transformers runs over pictures or texts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from slugkit.base import PatchError
from slugkit.models.names import locate


class Covariance:
    """Running second moment of a layer's inputs. matrix: (d, d) float64, the mean of x x^T over all tokens; count: tokens seen."""

    def __init__(self):
        self.matrix: torch.Tensor | None = None
        self.count = 0

    def add(self, x: torch.Tensor) -> None:
        """x: (tokens, d), any float dtype."""
        x = x.detach().double()
        seen, moment = self.count + len(x), x.T @ x
        self.matrix = moment / seen if self.matrix is None else self.matrix * (self.count / seen) + moment / seen
        self.count = seen


def _module_of(model, layer: str) -> torch.nn.Module:
    """The module that applies the layer; of a packed q/k/v the one of q, whose inputs k and v share."""
    place = locate(model, layer.split("[")[0])
    for module in model.modules() if place is not None else ():
        if getattr(module, "weight", None) is place.tensors[0]:
            return module
    raise PatchError(f"{type(model).__name__} applies no weight {layer!r} in a module of its own; a matrix of one of its blocks was expected.")


def _as_rows(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The inputs as rows that the layer's matrix multiplies: tokens, or the patches that a convolution reads."""
    if isinstance(module, torch.nn.Conv2d):
        return F.unfold(x, module.kernel_size, stride=module.stride).transpose(1, 2).flatten(0, 1)
    return x.flatten(0, -2)


@contextmanager
def watched(model, layers: list[str]) -> Iterator[dict[str, Covariance]]:
    """Within the block every run of the model adds to the covariances of what the layers read.

    model: a model of transformers that holds a CLIP tower. layers: canonical names. Raises PatchError for a layer that it does not apply.
    """
    found = {layer: Covariance() for layer in layers}
    modules = {layer: _module_of(model, layer) for layer in layers}
    hooks = [module.register_forward_pre_hook(lambda module, inputs, mine=found[layer]: mine.add(_as_rows(module, inputs[0])))
             for layer, module in modules.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
