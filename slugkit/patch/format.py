"""The edit as one safetensors file: its fields, its three forms, saved and loaded (FORMAT.md)."""

import json
import math
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of

from slugkit import __version__
from slugkit.base import PatchError, sha256_bytes, sha256_json, sha256_tensor, write_bytes
from slugkit.method.edit import PRECISIONS, EditableLayer
from slugkit.method.layers import tower_of
from slugkit.models.convert import activation_of

MAX_HEADER = 1 << 20  # bytes of JSON in a patch file
# bytes of a patch file, and of a direction unfolded; the largest CLIP layers need about 110 MB
MAX_FILE = 1 << 28
FORMS = {
    "fp32": {"direction": "F32"},
    "fp16": {"direction": "F16"},
    "low rank": {"left": "F16", "right": "F16"},
}
"""Form of a patch -> its tensors and their types in the file."""

_Side = Annotated[int, Field(ge=1, le=1 << 24)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
UNSOUND = (ValueError, KeyError, TypeError, RecursionError, SafetensorError, PatchError)
"""What reading a file that is not sound may raise."""


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    format: Literal["slugkit-patch"]
    version: Literal[2]
    form: Literal["fp32", "fp16", "low rank"]
    scale: _Positive
    error: Annotated[float, Field(ge=0, le=1)]
    shape: Annotated[list[_Side], Field(min_length=2, max_length=4)]
    layer: str
    tower: Literal["text", "vision"]
    orientation: Literal["canonical"]
    lam: _Positive
    rho: _Positive
    concept: str
    base_sha256: Annotated[dict[Literal["fp32", "fp16", "bf16"], Sha256], Field(min_length=3)]
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    tool_version: str
    tensors_sha256: dict[str, Sha256]
    checksum: Sha256


def _scalar(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot stand in a patch file")


def _header_size(data: bytes) -> int:
    return struct.unpack("<Q", data[:8])[0]


def unpacked(form: str, tensors: dict[str, torch.Tensor], scale: float, shape) -> torch.Tensor:
    """The direction that the stored tensors mean: float32, in the shape of the layer.

    Raises ValueError where they do not fit, before anything large is made.
    """
    _check_fill(form, tensors, shape)
    if form == "low rank":
        found = (tensors["left"].float() @ tensors["right"].float()).mul_(scale)
    else:
        found = tensors["direction"].float()
        found = found.mul_(scale) if form == "fp16" else found
    return found.reshape(tuple(shape))


def _check_fill(form: str, tensors: dict[str, torch.Tensor], shape) -> None:
    """Raises ValueError unless the stored tensors unfold into the shape."""
    sizes = [tuple(tensors[name].shape) for name in FORMS[form]]
    if form != "low rank":
        fits = math.prod(sizes[0]) == math.prod(shape)
    else:
        (out, *rank), (*again, width) = sizes
        fits = len(rank) == 1 and rank == again and out * width == math.prod(shape)
        if fits and rank[0] > min(out, width):
            raise ValueError(f"its rank {rank[0]} is more than a matrix of {out} x {width} has")
    if not fits:
        raise ValueError(f"its tensors {sizes} do not make the shape {tuple(shape)}")


class _Direction:
    """The field `direction`: given on "meta" it is unfolded from what is stored when asked for."""

    def __get__(self, p: Any, owner: Any = None) -> Any:
        if p is None:
            return self
        if p.__dict__["direction"].is_meta:
            found = unpacked(p.form, p.stored, p.scale, p.shape)
            _need_finite(found, p.layer)
            p.__dict__["direction"] = found
        return p.__dict__["direction"]

    def __set__(self, p: Any, value: torch.Tensor) -> None:
        p.__dict__["direction"] = value


def _need_finite(direction: torch.Tensor, layer: str) -> None:
    if direction.dtype != torch.float32 or not torch.isfinite(direction).all():
        raise PatchError(
            f"the direction of {layer} is not a tensor of finite float32 numbers.\n"
            "Make the patch again from its gradient."
        )


def _later(name: str) -> Callable[..., Any]:
    """A method that is the function of this name in `on_model`, which stands on this module."""

    def method(self: Any, model: Any) -> Any:
        return getattr(import_module("slugkit.patch.on_model"), name)(self, model)

    method.__name__, method.__doc__ = name, f"As `slugkit.patch.{name}`."
    return method


@dataclass(frozen=True, eq=False)
class Patch:
    """One edit: theta_new = theta0 - lam * direction on one layer.

    layer: canonical (open_clip) name, with [q], [k] or [v] for a part of a packed matrix. tower:
    "text" or "vision". direction: fp32, finite, in the canonical shape and orientation.
    lam, rho: > 0, the step and its relative size. concept: what is forgotten. base_sha256:
    `sha256_tensor` of the original layer as fp32, fp16 and bf16. metrics, provenance: anything JSON
    can hold, nan excluded. form, stored, scale, error: how the direction stands in the file
    (FORMAT.md). Raises PatchError.
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
    form: str = "fp32"
    stored: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    scale: float = 1.0
    error: float = 0.0

    def __post_init__(self) -> None:
        if not self.__dict__["direction"].is_meta:
            _need_finite(self.direction, self.layer)
        self.sha256  # noqa: B018 - writing the file once checks every field

    @property
    def shape(self) -> torch.Size:
        """The shape of the layer that it edits; nothing is unfolded for it."""
        return self.__dict__["direction"].shape

    def content(self) -> bytes:
        """The bytes of the patch file; the same patch gives the same bytes.

        Raises PatchError if a field cannot be written.
        """
        tensors = self.stored or {"direction": self.direction}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        names = {known.name for known in fields(self)} - {"direction", "stored"}
        record = {name: getattr(self, name) for name in names} | {
            "format": "slugkit-patch",
            "version": 2,
            "orientation": "canonical",
            "shape": list(self.shape),
            "tensors_sha256": {name: sha256_tensor(tensor) for name, tensor in tensors.items()},
        }
        record |= {name: float(record[name]) for name in ("lam", "rho", "scale", "error")}
        try:
            record = json.loads(json.dumps(record, default=_scalar, allow_nan=False))
            record["checksum"] = sha256_json(record)
            _Metadata.model_validate(record)
            text = json.dumps(record, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PatchError(
                f"the patch for {self.layer} cannot be written: {error}.\nUse plain JSON values and"
                " a step > 0."
            ) from error
        data = bytes_of(tensors, {"slugkit": text})
        if _header_size(data) > MAX_HEADER:
            raise PatchError(
                f"metrics and provenance take {len(text)} bytes; about {MAX_HEADER} fit in a patch"
                " file.\nKeep long tables elsewhere."
            )
        return data

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the patch file: the patch's identity."""
        return sha256_bytes(self.content())

    def save(self, path: str | Path) -> Path:
        """Write the patch as one safetensors file, whole or not at all. Returns the path."""
        write_bytes(path, self.content())
        return Path(path)

    verify, apply, remove, applied = map(_later, ("verify", "apply", "remove", "applied"))


save = Patch.save
Patch.direction = _Direction()  # type: ignore[assignment]  # unfolded when asked for


def make(
    layer: str,
    editable: EditableLayer,
    lam: float,
    concept: str,
    *,
    tower: str | None = None,
    metrics=None,
    provenance=None,
    model: Any = None,
) -> Patch:
    """The patch that writes what `editable.set(lam)` writes.

    editable: the layer with its original weight and direction; a half-precision original is hashed
    as it stands. tower: by default from the name. model: whose layer it is; its activation goes
    into the provenance. Raises PatchError.
    """
    known = activation_of(model, tower or tower_of(layer))
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
        provenance=dict(provenance or {}) | ({"activation": known} if known else {}),
    )


def _metadata(data: bytes) -> _Metadata:
    def refuse(text: str) -> None:
        raise ValueError(f"its metadata hold {text}")

    size = _header_size(data) if len(data) >= 8 else 0
    if size > MAX_HEADER:
        raise ValueError(f"its header claims {size} bytes, more than any patch needs")
    if not size or len(data) < 8 + size:
        raise ValueError("it is cut short")
    header = json.loads(data[8 : 8 + size], parse_constant=refuse)
    tensors = set(header) - {"__metadata__"} if isinstance(header, dict) else None
    if tensors not in [set(form) for form in FORMS.values()]:
        raise ValueError(
            "it does not hold exactly one tensor 'direction', or 'left' and 'right', and metadata"
        )
    record = json.loads(header["__metadata__"]["slugkit"], parse_constant=refuse)
    metadata = _Metadata.model_validate(record)
    require_checksum(record)
    if math.prod(metadata.shape) > MAX_FILE // 4:
        raise ValueError(
            f"its direction claims the shape {tuple(metadata.shape)}, more than any patch needs"
        )
    for name, kind in FORMS[metadata.form].items():
        if header[name]["dtype"] != kind:
            raise ValueError(f"its {name} has the type {header[name]['dtype']}, not {kind}")
    return metadata


def require_checksum(record: dict[str, Any]) -> None:
    """Raises ValueError where metadata are not those that their checksum was taken of."""
    if record["checksum"] != sha256_json({k: v for k, v in record.items() if k != "checksum"}):
        raise ValueError("its metadata were changed after it was written")


def load(path: str | Path) -> Patch:
    """Read a patch file and check it.

    Raises PatchError if it is missing, cut short, changed, or no patch at all.
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it cannot be read (a folder, pipe or device, no regular file)")
        if found.st_size > MAX_FILE:
            raise ValueError(f"it has {found.st_size} bytes, more than any patch needs")
        data = path.read_bytes()
    except OSError as error:
        reason = ValueError(f"it cannot be read ({error.strerror or error})")
        raise unsound(path.name, "patch file", reason) from error
    except ValueError as error:
        raise unsound(path.name, "patch file", error) from error
    return loads(data, path.name)


def loads(data: bytes, name: str = "this") -> Patch:
    """The patch that these bytes of a patch file hold; `name` is what an error calls it.

    Raises PatchError.
    """
    try:
        metadata, tensors = _metadata(data), tensors_from(data)
        if {n: sha256_tensor(tensor) for n, tensor in tensors.items()} != metadata.tensors_sha256:
            raise ValueError("its direction was changed after it was written")
        _check_fill(metadata.form, tensors, metadata.shape)
        if metadata.form == "fp32":
            direction, tensors = tensors["direction"].reshape(metadata.shape), {}
        else:  # unfolded when a model has the layer in this shape
            direction = torch.empty(metadata.shape, device="meta")
        names = {known.name for known in fields(Patch)} & set(_Metadata.model_fields)
        known = metadata.model_dump(include=names)
        return Patch(direction=direction, stored=tensors, **known)
    except UNSOUND as error:
        raise unsound(name, "patch file", error) from error


def unsound(name: str, kind: str, reason: Exception) -> PatchError:
    """The error about a file that is no sound patch file or record, with the reason in one line."""
    said = str(reason).splitlines()[0]
    if isinstance(reason, ValidationError):
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'metadata'}: {fault['msg']}"
            for fault in reason.errors()[:3]
        ]
        said = f"its metadata do not fit ({'; '.join(faults)})"
    elif isinstance(reason, KeyError):
        said = f"it has no entry {reason}"
    return PatchError(
        f"{name} is not a sound {kind}: {said}.\nOne written by slugkit was expected; fetch or make"
        " it again. Nothing was changed."
    )
