"""The edit as a file: make, save, load, verify, apply, remove (design, section 6).

A patch is one safetensors file: the step direction g_f of one layer, and JSON that says which layer, how far to
step and which original it belongs to. It works on any torch model that holds the layer; no model library is needed.

patch.apply(patch.load("text.safetensors"), model)
"""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from weakref import WeakKeyDictionary

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from slugkit import __version__
from slugkit.base import PatchError, ShapeError, nearest, sha256_bytes, sha256_json, sha256_tensor, write_bytes
from slugkit.ranking import part_rows, split_layer, tower_of
from slugkit.search import PRECISIONS, EditableLayer, stepped

MAX_HEADER = 1 << 20  # bytes of JSON in a patch file
MAX_FILE = 1 << 30  # bytes of a patch file; the largest CLIP layers need about 60 MB

Resolve = Callable[[Any, str], torch.Tensor]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    format: Literal["slugkit-patch"]
    version: Literal[1]
    layer: str
    tower: Literal["text", "vision"]
    orientation: Literal["canonical"]
    lam: _Positive
    rho: _Positive
    concept: str
    base_sha256: Annotated[dict[Literal["fp32", "fp16", "bf16"], _Sha256], Field(min_length=3)]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    tool_version: str
    direction_sha256: _Sha256
    checksum: _Sha256


def _scalar(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot stand in a patch file")


def _header_size(data: bytes) -> int:
    return struct.unpack("<Q", data[:8])[0]


@dataclass(frozen=True, eq=False)
class Patch:
    """One edit: theta_new = theta0 - lam * direction on one layer.

    layer: canonical (open_clip) name, with [q], [k] or [v] for a part of a packed matrix. tower: "text" or
    "vision". direction: fp32, finite, in the shape and orientation of the canonical layer (g_f, the gradient of the
    mean forget cosine). lam: > 0. rho: relative size of the step, > 0. concept: what is forgotten. base_sha256:
    `sha256_tensor` of the original layer as fp32, fp16 and bf16. metrics, provenance: anything JSON can hold, nan
    excluded. Raises PatchError.
    """

    layer: str
    tower: str
    direction: torch.Tensor
    lam: float
    rho: float
    concept: str
    base_sha256: dict[str, str]
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    tool_version: str = __version__

    def __post_init__(self) -> None:
        if self.direction.dtype != torch.float32 or not torch.isfinite(self.direction).all():
            raise PatchError(
                f"the direction of {self.layer} is not a tensor of finite float32 numbers.\n"
                "Make the patch again from its gradient."
            )
        self.sha256  # noqa: B018 - writing the file once checks every field

    def content(self) -> bytes:
        """The bytes of the patch file; the same patch gives the same bytes.

        Raises PatchError if a field cannot be written.
        """
        record = {known.name: getattr(self, known.name) for known in fields(self) if known.name != "direction"}
        record |= {"format": "slugkit-patch", "version": 1, "orientation": "canonical"}
        record |= {"lam": float(self.lam), "rho": float(self.rho), "direction_sha256": sha256_tensor(self.direction)}
        try:
            record = json.loads(json.dumps(record, default=_scalar, allow_nan=False))
            record["checksum"] = sha256_json(record)
            _Metadata.model_validate(record)
            text = json.dumps(record, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PatchError(
                f"the patch for {self.layer} cannot be written: {error}.\nUse plain JSON values and a step > 0."
            ) from error
        data = bytes_of({"direction": self.direction.detach().cpu().contiguous()}, {"slugkit": text})
        if _header_size(data) > MAX_HEADER:
            raise PatchError(
                f"metrics and provenance take {len(text)} bytes; about {MAX_HEADER} fit in a patch file.\n"
                "Keep long tables elsewhere."
            )
        return data

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the patch file: the patch's identity."""
        return sha256_bytes(self.content())


def make(
    layer: str,
    editable: EditableLayer,
    lam: float,
    concept: str,
    *,
    tower: str | None = None,
    metrics=None,
    provenance=None,
) -> Patch:
    """The patch that writes what `editable.set(lam)` writes.

    editable: the layer with its original weight and direction; a half-precision original is hashed as it stands. tower:
    by default from the name. Raises PatchError.
    """
    original = editable.theta0.float()
    hashes = {name: sha256_tensor(original.to(dtype)) for dtype, name in PRECISIONS.items()}
    return Patch(
        layer=layer,
        tower=tower or tower_of(layer),
        direction=editable.direction.detach().cpu().clone(memory_format=torch.contiguous_format),
        lam=float(lam),
        rho=float(editable.rho(lam)),
        concept=concept,
        base_sha256=hashes,
        metrics=dict(metrics or {}),
        provenance=dict(provenance or {}),
    )


def save(p: Patch, path: str | Path) -> Path:
    """Write the patch as one safetensors file, whole or not at all; the same patch gives the same bytes.

    Returns the path.
    """
    write_bytes(path, p.content())
    return Path(path)


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE:
            raise ValueError(f"it has {size} bytes, more than any patch needs")
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror or error})") from error
    if len(data) < 8:
        raise ValueError("it is cut short")
    if _header_size(data) > MAX_HEADER:
        raise ValueError(f"its header claims {_header_size(data)} bytes, more than any patch needs")
    if len(data) < 8 + _header_size(data):
        raise ValueError("it is cut short")
    return data


def _metadata(data: bytes) -> _Metadata:
    def refuse(text: str) -> None:
        raise ValueError(f"its metadata hold {text}")

    header = json.loads(data[8 : 8 + _header_size(data)], parse_constant=refuse)
    if not isinstance(header, dict) or set(header) != {"__metadata__", "direction"}:
        raise ValueError("it does not hold exactly one tensor 'direction' and metadata")
    if header["direction"]["dtype"] != "F32":
        raise ValueError(f"its direction has the type {header['direction']['dtype']}, not F32")
    record = json.loads(header["__metadata__"]["slugkit"], parse_constant=refuse)
    metadata = _Metadata.model_validate(record)
    if metadata.checksum != sha256_json({key: value for key, value in record.items() if key != "checksum"}):
        raise ValueError("its metadata were changed after it was written")
    return metadata


def load(path: str | Path) -> Patch:
    """Read a patch file and check it. Raises PatchError if it is missing, cut short, changed, or no patch at all."""
    try:
        data = _read(Path(path))
        metadata = _metadata(data)
        direction = tensors_from(data)["direction"]
        if sha256_tensor(direction) != metadata.direction_sha256:
            raise ValueError("its direction was changed after it was written")
        fields = metadata.model_dump(exclude={"format", "version", "orientation", "direction_sha256", "checksum"})
        return Patch(direction=direction, **fields)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'metadata'}: {fault['msg']}" for fault in error.errors()[:3]
        )
        reason: Any = f"its metadata do not fit ({faults})"
    except (ValueError, KeyError, TypeError, RecursionError, SafetensorError, PatchError) as error:
        reason = f"it has no entry {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    raise PatchError(
        f"{Path(path).name} is not a sound patch file: {reason}.\n"
        "A patch written by slugkit was expected; fetch or make it again. Nothing was changed."
    )


@dataclass
class _Edited:
    original: torch.Tensor
    written: str
    patches: dict[str, Patch]


_REGISTRY: WeakKeyDictionary[Any, dict[str, _Edited]] = WeakKeyDictionary()


def _get_parameter(model: Any, name: str) -> torch.Tensor:
    return model.get_parameter(name)


def _find(p: Patch, model: Any, resolve: Resolve | None) -> torch.Tensor:
    name, _ = split_layer(p.layer)
    try:
        found = (resolve or _get_parameter)(model, name)
    except (AttributeError, LookupError) as error:
        known = [known for known, _ in model.named_parameters()] if hasattr(model, "named_parameters") else []
        close = nearest(name, known)
        hint = f"The nearest names are {', '.join(close)}." if close else "Pass `resolve` for a model with other names."
        raise PatchError(
            f"this model has no layer {name}, which the patch for {p.concept!r} edits; nothing was changed.\n{hint}"
        ) from error
    if found.dtype not in PRECISIONS:
        raise PatchError(
            f"layer {name} has the type {found.dtype}; float32, float16 or bfloat16 was expected. Nothing was "
            "changed.\nConvert the model first."
        )
    return found.detach()


def _edited(model: Any, name: str, weight: torch.Tensor) -> _Edited | None:
    """What this process wrote to the layer, if the weight still holds it; None if the weight is the original."""
    edited = _REGISTRY.get(model, {}).get(name)
    if edited is None:
        return None
    now = sha256_tensor(weight)
    if now == edited.written:
        return edited
    if now == sha256_tensor(edited.original):
        del _REGISTRY[model][name]
        return None
    raise PatchError(
        f"layer {name} was changed by something else since a patch was applied to it; the patched weight was "
        "expected. Nothing was changed.\n"
        "Load the model again. Remove patches before converting or training a model."
    )


def _rows(p: Patch, weight: torch.Tensor) -> slice:
    return part_rows(len(weight), split_layer(p.layer)[1])


def _matched(p: Patch, model: Any, resolve: Resolve | None) -> tuple[str, torch.Tensor, _Edited | None]:
    name, _ = split_layer(p.layer)
    weight = _find(p, model, resolve)
    try:
        rows = _rows(p, weight)
    except (ShapeError, TypeError) as error:
        raise PatchError(f"layer {p.layer} does not fit this model: {error}\nNothing was changed.") from error
    if weight[rows].shape != p.direction.shape:
        raise PatchError(
            f"layer {p.layer} has the shape {tuple(weight[rows].shape)} in this model and {tuple(p.direction.shape)} "
            "in the patch; "
            "equal shapes were expected. Nothing was changed.\nUse the model that the patch was made for."
        )
    edited = _edited(model, name, weight)
    found = sha256_tensor((edited.original if edited else weight)[rows])
    expected = p.base_sha256[PRECISIONS[weight.dtype]]
    if found != expected:
        raise PatchError(
            f"layer {p.layer} of this model is not the weight that the patch for {p.concept!r} was made for (SHA-256 "
            f"{found[:12]}…, "
            f"expected {expected[:12]}…). Nothing was changed.\n"
            "Use the original checkpoint; an edited or fine-tuned copy will not do."
        )
    return name, weight, edited


def verify(p: Patch, model: Any, resolve: Resolve | None = None) -> None:
    """Check that the patch belongs to the model; patches applied in this process do not matter.

    model: a torch module whose layer is fp32, fp16 or bf16, or anything `resolve` understands. resolve: (model,
    canonical name) -> the weight, or a view of it in the canonical orientation; by default `model.get_parameter`.
    Raises PatchError (missing layer, wrong shape, wrong base).
    """
    _matched(p, model, resolve)


def _compute(original: torch.Tensor, patches: dict[str, Patch]) -> torch.Tensor:
    """The edited weight: the patches taken off the original in fp32, in a canonical order, then cast to its type."""
    new = original.to(torch.float32, copy=True)
    for p in sorted(patches.values(), key=lambda p: (p.layer, p.sha256)):
        rows = _rows(p, new)
        stepped(new[rows], p.direction.to(new.device), p.lam, out=new[rows])
    new = new.to(original.dtype)
    if not torch.isfinite(new).all():
        raise PatchError(
            f"the edited weight would not be finite in {original.dtype}; finite numbers were expected. Nothing was "
            "changed.\n"
            "Use a smaller step, or a model in float32."
        )
    return new


def apply(p: Patch, model: Any, resolve: Resolve | None = None) -> None:
    """Apply the patch to the model, in place; other patches applied in this process stay.

    The result depends on the set of patches and not on their order; applying a patch twice is applying it once. For a
    single patch on an fp32 model it is bit for bit what the search measured. Arguments and errors as in `verify`;
    PatchError also if the edited weight would not be finite. After an error nothing was changed.
    """
    _apply(p, model, resolve)


def _apply(p: Patch, model: Any, resolve: Resolve | None) -> bool:
    """Apply the patch; True if it was not on the model before."""
    name, weight, edited = _matched(p, model, resolve)
    if edited and p.sha256 in edited.patches:
        return False
    original = edited.original.to(weight.device) if edited else weight.clone()
    patches = (edited.patches if edited else {}) | {p.sha256: p}
    new = _compute(original, patches)
    _REGISTRY.setdefault(model, {})[name] = _Edited(original, sha256_tensor(new), patches)
    weight.copy_(new)
    return True


def remove(p: Patch, model: Any, resolve: Resolve | None = None) -> None:
    """Take the patch off again; with the last one the layer is the original, bit for bit.

    Raises PatchError if the patch was not applied to this model in this process, or the layer was changed since.
    """
    name, _ = split_layer(p.layer)
    weight = _find(p, model, resolve)
    edited = _edited(model, name, weight)
    if edited is None or p.sha256 not in edited.patches:
        raise PatchError(
            f"the patch for {p.concept!r} on {p.layer} is not applied to this model in this process; nothing was "
            "changed.\n"
            "To undo an edit made elsewhere, load the original weights."
        )
    patches = {key: other for key, other in edited.patches.items() if key != p.sha256}
    original = edited.original.to(weight.device)
    if patches:
        new = _compute(original, patches)
        _REGISTRY[model][name] = _Edited(original, sha256_tensor(new), patches)
        weight.copy_(new)
    else:
        weight.copy_(original)
        del _REGISTRY[model][name]


def patches_on(model: Any) -> list[Patch]:
    """The patches that `apply` put on the model in this process, in canonical order (layer, then file hash)."""
    found = [p for edited in _REGISTRY.get(model, {}).values() for p in edited.patches.values()]
    return sorted(found, key=lambda p: (p.layer, p.sha256))


@contextmanager
def applied(p: Patch, model: Any, resolve: Resolve | None = None) -> Iterator[Any]:
    """Within the block the patch is applied; afterwards the model is as before, also after an error.

    Yields the model. A patch that was applied before the block stays. Arguments and errors as in `apply`.
    """
    fresh = _apply(p, model, resolve)
    try:
        yield model
    finally:
        if fresh:
            remove(p, model, resolve)
