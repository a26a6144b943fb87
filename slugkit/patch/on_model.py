"""The edit on a model: verify, apply, remove, several at once, in any order, bit for bit.

A model is anything that holds the layer: an open_clip CLIP, transformers' CLIPModel, CLIPTextModel,
CLIPVisionModel or LLaVA, a pipeline of diffusers, or a dictionary of tensors, which also serves for
a model with other names: canonical name -> weight, or a view of it in the canonical orientation.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from slugkit.base import PatchError, ShapeError, nearest, sha256_tensor
from slugkit.method.edit import PRECISIONS, stepped
from slugkit.method.layers import part_rows, split_layer
from slugkit.models.convert import activation_of
from slugkit.models.reachability import unused_layers
from slugkit.models.weight_map import Place, locate, parameters, parts, unwrapped
from slugkit.patch.format import Patch


@dataclass(frozen=True)
class Edited:
    """A layer's original, the patches on it by SHA-256, and the SHA-256 of what was written."""

    layer: str
    original: torch.Tensor
    patches: dict[str, Patch] = field(default_factory=dict)
    written: str = ""


_REGISTRY: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""The first tensor that a model keeps an edited layer in -> `Edited`."""


@dataclass(frozen=True)
class Layer:
    """One layer of a model: where it is kept, and its present weight in canonical orientation."""

    name: str
    place: Place
    weight: torch.Tensor

    @cached_property
    def edited(self) -> Edited:
        """What this process did to the layer, if anything.

        Raises PatchError where the weight is neither what was written nor the original.
        """
        edited = _REGISTRY.get(self.place.tensors[0])
        now = sha256_tensor(self.weight) if edited else ""
        if edited and now == edited.written:
            return edited
        if edited and now != sha256_tensor(edited.original):
            raise _refusal(
                f"layer {self.name} was changed by something else since a patch was applied to it;"
                " the patched weight was expected",
                "Load the model again. Remove patches before converting or training a model.",
            )
        self.know(Edited(self.name, self.weight))
        return Edited(self.name, self.weight)

    def write(self, patches: dict[str, Patch]) -> None:
        """Write the original with these patches, none or several, and remember both."""
        new = _computed(self, patches)
        self.know(Edited(self.name, self.edited.original, patches, sha256_tensor(new)))
        self.place.write(new)

    def know(self, edited: Edited) -> None:
        """Remember what was done to the layer."""
        if edited.patches:
            _REGISTRY[self.place.tensors[0]] = edited
        else:
            _REGISTRY.pop(self.place.tensors[0], None)


def _refusal(what: str, advice: str) -> PatchError:
    return PatchError(f"{what}. Nothing was changed.\n{advice}")


def find(layer: str, concept: str, model: Any) -> Layer:
    """Where the model keeps a layer.

    concept: for the error. Raises PatchError where it has none, cannot use it, or keeps it in
    another type.
    """
    (name, _), model = split_layer(layer), unwrapped(model)
    try:
        place = locate(model, name)
    except PatchError:
        place = None
    if place is None:
        named = model.named_parameters() if hasattr(model, "named_parameters") else ()
        close = ", ".join(nearest(name, [known for known, _ in named]))
        raise _refusal(
            f"this model has no layer {name}, which the patch for {concept!r} edits",
            f"The nearest names are {close}."
            if close
            else "For a model with other names pass a dictionary: canonical name -> weight.",
        )
    kinds = {tensor.dtype for tensor in place.tensors}
    what = ""
    if any(tensor.is_meta for tensor in place.tensors):
        what = f"layer {name} is not in memory: it was offloaded to disk, or never loaded"
        advice = "Apply the patch to the files (`slugkit patch apply`), or load without device_map."
    elif unused := unused_layers(model, [name]):
        what = f"an edit of layer {name} cannot act: {unused[name]}"
        advice = "Use the patch of another layer."
    elif len(kinds) > 1 or not kinds <= set(PRECISIONS):
        found = ", ".join(sorted(map(str, kinds)))
        what = f"layer {name} has the type {found}; float32, float16 or bfloat16 was expected"
        advice = "Convert the model first."
    if what:
        raise _refusal(what, advice)
    return Layer(name, place, place.read())


def part_for(p: Patch, weight: torch.Tensor) -> torch.Tensor:
    """The part of a whole weight that the patch edits: all of it, or the rows of q, k or v.

    Raises ShapeError, TypeError where it cannot be split.
    """
    return weight[part_rows(len(weight), split_layer(p.layer)[1])]


def _in_a_part(p: Patch, model: Any, look: Callable[[Patch, Any], Layer]) -> Layer:
    """What `look` finds in the first part (one of several text encoders) that does not refuse."""
    refusals = []
    for part in parts(model):
        try:
            return look(p, part)
        except PatchError as refused:
            refusals.append(refused)
    if len(refusals) == 1:
        raise refusals[0]
    raise _refusal(
        f"none of the {len(refusals)} text encoders fits the patch for {p.concept!r}",
        "\n".join(str(refused).splitlines()[0] for refused in refusals),
    )


def _matched(p: Patch, model: Any) -> Layer:
    """The layer that the patch was made for."""
    layer = find(p.layer, p.concept, model)
    try:
        original = part_for(p, layer.edited.original)
    except (ShapeError, TypeError) as error:
        raise _refusal(f"layer {p.layer} does not fit this model", str(error)) from error
    if original.shape != p.shape:
        raise _refusal(
            f"layer {p.layer} has the shape {tuple(original.shape)} in this model and"
            f" {tuple(p.shape)} in the patch; equal shapes were expected",
            "Use the model that the patch was made for.",
        )
    if not _is_base(original, p):
        raise _refusal(
            f"layer {p.layer} of this model is not the weight that the patch for {p.concept!r} was"
            f" made for (SHA-256 {sha256_tensor(original)[:12]}…, expected"
            f" {p.base_sha256[PRECISIONS[original.dtype]][:12]}…)",
            "Use the original checkpoint; an edited or fine-tuned copy will not do.",
        )
    made, here = p.provenance.get("activation"), activation_of(unwrapped(model), p.tower)
    if isinstance(made, str) and here and made != here:
        raise _refusal(
            f"the patch for {p.concept!r} was made on a {p.tower} tower with the activation {made},"
            f" and this model computes with {here}: the same weights, another model",
            "Load the weights with the activation that they were trained with.",
        )
    return layer


def _is_base(weight: torch.Tensor, p: Patch) -> bool:
    """Whether the patch was made for this weight, or for what it holds in a coarser type."""
    for kind, name in PRECISIONS.items():
        cast = weight.to(kind)
        same = torch.equal(cast.to(weight.dtype), weight)
        if same and sha256_tensor(cast) == p.base_sha256[name]:
            return True
    return False


def verify(p: Patch, model: Any) -> None:
    """Check that the patch belongs to the model; patches applied in this process do not matter.

    model: see the module; its layer fp32, fp16 or bf16. Raises PatchError where `apply` would:
    missing layer, a layer that cannot act there, wrong shape, base or activation, an edited weight
    that would not be finite.
    """
    layer = _in_a_part(p, model, _matched)
    _computed(layer, layer.edited.patches | {p.sha256: p})


def _computed(layer: Layer, patches: dict[str, Patch]) -> torch.Tensor:
    """The original less the patches, in fp32 and a canonical order, then cast to its type."""
    original = layer.edited.original.to(layer.weight.device)
    if not patches:
        return original
    new = original.to(torch.float32, copy=True)
    for p in in_order(patches.values()):
        part = part_for(p, new)
        stepped(part, p.direction.to(new.device), p.lam, out=part)
    new = new.to(original.dtype)
    if not torch.isfinite(new).all():
        raise _refusal(
            f"the edited weight would not be finite in {original.dtype}; finite numbers were"
            " expected",
            "Use a smaller step, or a model in float32.",
        )
    return new


def in_order(patches: Iterable[Patch]) -> list[Patch]:
    """Patches in canonical order: by layer, then by file hash."""
    return sorted(patches, key=lambda p: (p.layer, p.sha256))


def apply(p: Patch, model: Any) -> bool:
    """Apply the patch to the model, in place; other patches applied in this process stay.

    The result depends on the set of patches and not on their order. For a single patch on an fp32
    model it is bit for bit what the search measured. Returns whether the patch is new on the model.
    Arguments and errors as in `verify`. After an error nothing was changed.
    """
    layer = _in_a_part(p, model, _matched)
    fresh = p.sha256 not in layer.edited.patches
    if fresh:
        layer.write(layer.edited.patches | {p.sha256: p})
    return fresh


def remove(p: Patch, model: Any) -> None:
    """Take the patch off again; with the last one the layer is the original, bit for bit.

    Raises PatchError if the patch was not applied to this model in this process
    (`slugkit.patch.record` tells another one), or the layer was changed since.
    """
    layer = _in_a_part(p, model, _holding)
    layer.write({sha: other for sha, other in layer.edited.patches.items() if sha != p.sha256})


def _holding(p: Patch, model: Any) -> Layer:
    """The layer that the patch is on."""
    layer = find(p.layer, p.concept, model)
    if p.sha256 not in layer.edited.patches:
        raise _refusal(
            f"the patch for {p.concept!r} on {p.layer} is not applied to this model in this"
            " process",
            "To undo an edit made elsewhere, load the original weights.",
        )
    return layer


def edits_of(model: Any) -> list[Edited]:
    """What this process did to each layer of the model that it edited."""
    tensors: Iterable[torch.Tensor] = ()
    if isinstance(model, Mapping) and hasattr(model, "named_parameters"):  # files: what was read
        tensors = (tensor for _, tensor in model.named_parameters())
    else:
        with suppress(PatchError):
            tensors = parameters(unwrapped(model)).values()
    return [_REGISTRY[tensor] for tensor in tensors if tensor in _REGISTRY]


def patches_on(model: Any) -> list[Patch]:
    """The patches that `apply` put on the model in this process, in canonical order."""
    return in_order(p for edited in edits_of(model) for p in edited.patches.values())


@contextmanager
def all_applied(patches: Iterable[Any], model: Any) -> Iterator[Any]:
    """Within the block all the patches are applied, on whatever layers and in any order; afterwards
    the model is as before, bit for bit, also after an error. What was on before the block stays.

    patches: also `PatchSet`s. Yields the model. Arguments and errors as in `apply`; after an error
    nothing is changed.
    """
    with ExitStack() as stack:
        for p in (each for some in patches for each in getattr(some, "patches", [some])):
            if apply(p, model):
                stack.callback(remove, p, model)
        yield model


def applied(p: Any, model: Any) -> AbstractContextManager[Any]:
    """`all_applied` of one patch, or of a `PatchSet`."""
    return all_applied([p], model)
