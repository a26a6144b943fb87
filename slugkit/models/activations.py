"""What a layer reads: second moments of its inputs, captured while a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F

from slugkit.base import PatchError, wide
from slugkit.data import Pairs
from slugkit.method.layers import tower_of
from slugkit.models.clip import Clip
from slugkit.models.convert import to_transformers
from slugkit.models.precision import multiplying
from slugkit.models.weight_map import locate


class Covariance:
    """Running second moment. matrix: (d, d) float64, the mean of x x^T over `count` tokens."""

    matrix: torch.Tensor | None = None
    count = 0

    def note(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        """Add what the module is about to read: a hook that runs before its forward pass."""
        x = inputs[0]
        if isinstance(module, torch.nn.Conv2d):  # a picture's patches
            x = F.unfold(x, module.kernel_size, stride=module.stride).transpose(1, 2)
        x = wide(x.flatten(0, -2).detach())
        seen, moment = self.count + len(x), x.T @ x
        mean = moment / seen
        if self.matrix is not None:
            mean = self.matrix * (self.count / seen) + mean
        self.matrix, self.count = mean, seen


def _module_of(model, layer: str) -> torch.nn.Module:
    """The module that applies the layer, or that of q, which reads what those of k and v read."""
    place = locate(model, layer.split("[")[0])
    owners = {id(getattr(module, "weight", None)): module for module in model.modules()}
    if place is None or not all(id(tensor) in owners for tensor in place.tensors):
        raise PatchError(
            f"{type(model).__name__} applies no weight {layer!r} in a module of its own; a matrix"
            " of one of its blocks was expected."
        )
    return owners[id(place.tensors[0])]


@contextmanager
def watched(model, layers: list[str]) -> Iterator[dict[str, Covariance]]:
    """Within the block every run of the model, in float32 also on a GPU (`multiplying`), adds to
    the covariances of what the layers read.

    model: a model of transformers that holds a CLIP tower. layers: canonical names. Raises
    PatchError for a layer that it does not apply.
    """
    found = {layer: Covariance() for layer in layers}
    modules = {layer: _module_of(model, layer) for layer in layers}
    with multiplying(), ExitStack() as hooks:
        for layer, module in modules.items():
            hooks.enter_context(module.register_forward_pre_hook(found[layer].note))
        yield found


@torch.no_grad()
def read_moments(clip: Clip, pairs: Pairs, layers: list[str]) -> dict[str, torch.Tensor]:
    """Second moment A of what each layer reads of the pairs: of the captions in the text tower, up
    to their end token, of the pictures in the vision tower. Returns layer -> (in, in) float64.

    Runs the CLIP in transformers' class, whose modules apply one matrix each. Raises ModelLoadError
    for an architecture that it does not hold, PatchError for a weight that no module applies.
    """
    model = to_transformers(clip.model).to(clip.device)
    with watched(model, layers) as seen:
        if any(tower_of(layer) == "text" for layer in layers):
            # what follows the end token does not reach CLIP's answer (causal mask)
            tokens = clip.tokens(pairs.captions)
            lengths = tokens.argmax(-1) + 1
            for length in sorted(set(lengths.tolist())):
                for part in torch.split(tokens[lengths == length][:, :length], 256):
                    model.get_text_features(part)
        if any(tower_of(layer) == "vision" for layer in layers):
            for i in range(0, len(pairs), clip.batch):
                model.get_image_features(clip.pixels(pairs.images[i : i + clip.batch]))
    return {layer: seen[layer].matrix for layer in layers}
