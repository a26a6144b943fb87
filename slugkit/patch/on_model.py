"""The edit on a model: verify, apply, remove, several at once, in any order, bit for bit (design,
section 6).

A model is anything that holds the layer: an open_clip CLIP, transformers' CLIPModel, CLIPTextModel,
CLIPVisionModel or LLaVA, a pipeline of diffusers, or a dictionary of tensors;
`slugkit.models.weight_map` finds the layer there. No model library is needed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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

Resolve = Callable[[Any, str], torch.Tensor]


@dataclass
class _Edited:
    original: torch.Tensor
    written: str
    patches: dict[str, Patch]


_REGISTRY: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""The tensor that a model keeps the layer in (its first one, or the model itself with `resolve`) ->
layer -> what was done to it.
"""


def _place(name: str, model: Any, resolve: Resolve | None) -> Place | None:
    if resolve is None:
        return locate(model, name)
    return Place((resolve(model, name),))


@dataclass
class Layer:
    """One layer of a model: where it is kept, its present weight in canonical orientation, and what
    this process did to it.
    """

    name: str
    place: Place
    key: Any
    weight: torch.Tensor

    def edited(self) -> _Edited | None:
        """What this process wrote to the layer, if the weight still holds it; None if the weight is
        the original.

        Raises PatchError.
        """
        edited = _REGISTRY.get(self.key, {}).get(self.name)
        if edited is None:
            return None
        now = sha256_tensor(self.weight)
        if now == edited.written:
            return edited
        if now == sha256_tensor(edited.original):
            self.forget()
            return None
        raise PatchError(
            f"layer {self.name} was changed by something else since a patch was applied to it; the"
            " patched weight was expected. Nothing was changed.\nLoad the model again. Remove"
            " patches before converting or training a model."
        )

    def write(self, original: torch.Tensor, patches: dict[str, Patch]) -> None:
        """Write the original with these patches, and remember both; without patches the original
        alone.
        """
        if not patches:
            self.place.write(original)
            self.forget()
            return
        new = _compute(original, patches)
        self.know(original, sha256_tensor(new), patches)
        self.place.write(new)

    def know(self, original: torch.Tensor, written: str, patches: dict[str, Patch]) -> None:
        """Remember that the layer holds these patches on this original; written: SHA-256 of the
        weight with them.
        """
        _REGISTRY.setdefault(self.key, {})[self.name] = _Edited(original, written, patches)

    def forget(self) -> None:
        """What was done to the layer is no longer known."""
        known = _REGISTRY.get(self.key, {})
        known.pop(self.name, None)
        if not known and self.key in _REGISTRY:
            del _REGISTRY[self.key]


def find(layer: str, concept: str, model: Any, resolve: Resolve | None = None) -> Layer:
    """Where the model keeps a layer.

    concept: for the error. Raises PatchError where it has none, cannot use it, or keeps it in
    another type.
    """
    name, _ = split_layer(layer)
    if resolve is None:
        model = unwrapped(model)
    try:
        place = _place(name, model, resolve)
    except (AttributeError, LookupError, PatchError):
        place = None
    if place is None:
        known = (
            [known for known, _ in model.named_parameters()]
            if hasattr(model, "named_parameters")
            else []
        )
        close = nearest(name, known)
        hint = (
            f"The nearest names are {', '.join(close)}."
            if close
            else "Pass `resolve` for a model with other names."
        )
        raise PatchError(
            f"this model has no layer {name}, which the patch for {concept!r} edits; nothing was"
            f" changed.\n{hint}"
        )
    if any(tensor.is_meta for tensor in place.tensors):
        raise PatchError(
            f"layer {name} is not in memory: it was offloaded to disk, or never loaded. Nothing was"
            " changed.\nApply the patch to the files (`slugkit patch apply`), or load the model"
            " without a device_map that needs the disk."
        )
    unused = {} if resolve else unused_layers(model, [name])
    if unused:
        raise PatchError(
            f"an edit of layer {name} cannot act: {unused[name]}. Nothing was changed. Use the"
            " patch of another layer."
        )
    kinds = {tensor.dtype for tensor in place.tensors}
    if len(kinds) > 1 or not kinds <= set(PRECISIONS):
        raise PatchError(
            f"layer {name} has the type {', '.join(map(str, sorted(kinds, key=str)))}; float32,"
            " float16 or bfloat16 was expected. Nothing was changed.\nConvert the model first."
        )
    return Layer(name, place, model if resolve else place.tensors[0], place.read())


def rows_of(p: Patch, weight: torch.Tensor) -> slice:
    """The rows of a whole weight that the patch edits: all, or those of q, k or v.

    Raises ShapeError, TypeError where it cannot be split.
    """
    return part_rows(len(weight), split_layer(p.layer)[1])


def _matched(p: Patch, model: Any, resolve: Resolve | None) -> tuple[Layer, _Edited | None]:
    """The layer in the part of the model that the patch was made for: of a pipeline with several
    text encoders the one whose weight it is.
    """
    refusals = []
    for part in parts(model):
        try:
            return _matched_in(p, part, resolve)
        except PatchError as refused:
            refusals.append(refused)
    if len(refusals) == 1:
        raise refusals[0]
    raise PatchError(
        f"none of the {len(refusals)} text encoders takes the patch for {p.concept!r}; nothing was"
        " changed.\n" + "\n".join(str(r).splitlines()[0] for r in refusals)
    )


def _matched_in(p: Patch, model: Any, resolve: Resolve | None) -> tuple[Layer, _Edited | None]:
    layer = find(p.layer, p.concept, model, resolve)
    try:
        rows = rows_of(p, layer.weight)
    except (ShapeError, TypeError) as error:
        raise PatchError(
            f"layer {p.layer} does not fit this model: {error}\nNothing was changed."
        ) from error
    if layer.weight[rows].shape != p.shape:
        raise PatchError(
            f"layer {p.layer} has the shape {tuple(layer.weight[rows].shape)} in this model and"
            f" {tuple(p.shape)} in the patch; equal shapes were expected. Nothing was changed.\nUse"
            " the model that the patch was made for."
        )
    edited = layer.edited()
    original = (edited.original if edited else layer.weight)[rows]
    if not _is_base(original, p):
        raise PatchError(
            f"layer {p.layer} of this model is not the weight that the patch for {p.concept!r} was"
            f" made for (SHA-256 {sha256_tensor(original)[:12]}…, expected"
            f" {p.base_sha256[PRECISIONS[original.dtype]][:12]}…). Nothing was changed.\nUse the"
            " original checkpoint; an edited or fine-tuned copy will not do."
        )
    made, here = p.provenance.get("activation"), activation_of(unwrapped(model), p.tower)
    if isinstance(made, str) and here and made != here:
        raise PatchError(
            f"the patch for {p.concept!r} was made on a {p.tower} tower with the activation {made},"
            f" and this model computes with {here}: the same weights, another model. Nothing was"
            " changed.\nLoad the weights with the activation that they were trained with."
        )
    return layer, edited


def _is_base(weight: torch.Tensor, p: Patch) -> bool:
    """Whether the patch was made for this weight, or for one that is this in a coarser type: a file
    in half precision, read as float32.
    """
    for kind, name in PRECISIONS.items():
        cast = weight.to(kind)
        if (
            torch.equal(cast.to(weight.dtype), weight)
            and sha256_tensor(cast) == p.base_sha256[name]
        ):
            return True
    return False


def verify(p: Patch, model: Any, resolve: Resolve | None = None) -> None:
    """Check that the patch belongs to the model; patches applied in this process do not matter.

    model: see the module; its layer fp32, fp16 or bf16. resolve: for a model with other names,
    (model, canonical name) -> the weight, or a view of it in the canonical orientation.
    Raises PatchError where `apply` would: missing layer, a layer that cannot act there, wrong
    shape, base or activation, an edited weight that would not be finite.
    """
    layer, edited = _matched(p, model, resolve)
    _compute(*_with(p, layer, edited))


def _with(p: Patch, layer: Layer, edited: _Edited | None) -> tuple[torch.Tensor, dict[str, Patch]]:
    """The layer's original and its patches, the new one among them."""
    original = edited.original.to(layer.weight.device) if edited else layer.weight
    return original, (edited.patches if edited else {}) | {p.sha256: p}


def _compute(original: torch.Tensor, patches: dict[str, Patch]) -> torch.Tensor:
    """The edited weight: the patches taken off the original in fp32, in a canonical order, then
    cast to its type.
    """
    new = original.to(torch.float32, copy=True)
    for p in sorted(patches.values(), key=lambda p: (p.layer, p.sha256)):
        rows = rows_of(p, new)
        stepped(new[rows], p.direction.to(new.device), p.lam, out=new[rows])
    new = new.to(original.dtype)
    if not torch.isfinite(new).all():
        raise PatchError(
            f"the edited weight would not be finite in {original.dtype}; finite numbers were"
            " expected. Nothing was changed.\nUse a smaller step, or a model in float32."
        )
    return new


def apply(p: Patch, model: Any, resolve: Resolve | None = None) -> None:
    """Apply the patch to the model, in place; other patches applied in this process stay.

    The result depends on the set of patches and not on their order; applying a patch twice is
    applying it once. For a single patch on an fp32 model it is bit for bit what the search
    measured. Arguments and errors as in `verify`; PatchError also if the edited weight would not be
    finite. After an error nothing was changed.
    """
    _apply(p, model, resolve)


def _apply(p: Patch, model: Any, resolve: Resolve | None) -> bool:
    """Apply the patch; True if it was not on the model before."""
    layer, edited = _matched(p, model, resolve)
    if edited and p.sha256 in edited.patches:
        return False
    layer.write(*_with(p, layer, edited))
    return True


def remove(p: Patch, model: Any, resolve: Resolve | None = None) -> None:
    """Take the patch off again; with the last one the layer is the original, bit for bit.

    Raises PatchError if the patch was not applied to this model in this process
    (`slugkit.patch.record` tells another one), or the layer was changed since.
    """
    refusals = []
    for part in parts(model):
        try:
            layer = find(p.layer, p.concept, part, resolve)
        except PatchError as refused:  # the other text encoder may lack the layer, or never read it
            refusals.append(refused)
            continue
        edited = layer.edited()
        if edited is not None and p.sha256 in edited.patches:
            break
    else:
        if len(refusals) == len(parts(model)):
            raise refusals[0]
        raise PatchError(
            f"the patch for {p.concept!r} on {p.layer} is not applied to this model in this"
            " process; nothing was changed.\nTo undo an edit made elsewhere, load the original"
            " weights."
        )
    layer.write(
        edited.original.to(layer.weight.device),
        {key: other for key, other in edited.patches.items() if key != p.sha256},
    )


def edits_of(model: Any) -> list[tuple[str, _Edited]]:
    """Layer and what was done to it, for every layer of the model that this process edited."""
    try:
        files = isinstance(model, Mapping) and hasattr(model, "named_parameters")
        tensors = (
            [tensor for _, tensor in model.named_parameters()]
            if files
            else list(parameters(unwrapped(model)).values())
        )
    except PatchError:
        tensors = []
    mine = {id(tensor) for tensor in (*tensors, model)}
    return [
        (name, edited)
        for key, known in _REGISTRY.items()
        if id(key) in mine
        for name, edited in known.items()
    ]


def patches_on(model: Any) -> list[Patch]:
    """The patches that `apply` put on the model in this process, in canonical order (layer, then
    file hash).
    """
    found = [p for _, edited in edits_of(model) for p in edited.patches.values()]
    return sorted(found, key=lambda p: (p.layer, p.sha256))


@contextmanager
def applied(p: Patch, model: Any, resolve: Resolve | None = None) -> Iterator[Any]:
    """Within the block the patch is applied; afterwards the model is as before, also after an
    error.

    Yields the model. A patch that was applied before the block stays. Arguments and errors as in
    `apply`.
    """
    fresh = _apply(p, model, resolve)
    try:
        yield model
    finally:
        if fresh:
            remove(p, model, resolve)


@contextmanager
def all_applied(
    patches: Iterable[Patch], model: Any, resolve: Resolve | None = None
) -> Iterator[Any]:
    """Within the block all the patches are applied, on whatever layers; afterwards the model is as
    before, bit for bit.

    The order does not matter. Arguments and errors as in `apply`; after an error nothing is
    changed.
    """
    with ExitStack() as stack:
        for p in patches:
            stack.enter_context(applied(p, model, resolve))
        yield model
