"""A record beside an edited model: the original weights of the edited layers and the patches on
them, so that another process can take them off.

One safetensors file: for layer i the tensor `original.i`, and for its patch k the bytes of the
patch file, `patch.i.k` (uint8).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as bytes_of

from slugkit.base import PatchError, sha256_json, sha256_tensor, write_bytes
from slugkit.models.weight_map import parts
from slugkit.patch import on_model
from slugkit.patch.format import loads

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    layer: str
    original: _Sha256
    written: _Sha256
    patches: Annotated[list[_Sha256], Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    format: Literal["slugkit-record"]
    version: Literal[1]
    layers: Annotated[list[_Entry], Field(min_length=1)]
    checksum: _Sha256


def save_record(model: Any, path: str | Path) -> Path:
    """Write what this process did to the model: the original of every edited layer, and its
    patches.

    Returns the path.

    model: or a list of copies of it, each of which may be in another precision.
    Raises PatchError where no patch is on the model. Whoever has the record can undo the edit: it
    holds the original weights.
    """
    found = [
        edit
        for one in (model if isinstance(model, list) else [model])
        for edit in on_model.edits_of(one)
    ]
    edits = [
        edit
        for _, edit in sorted(
            {(name, edited.written): (name, edited) for name, edited in found}.items()
        )
    ]
    if not edits:
        raise PatchError(
            "no patch is on this model in this process, so there is nothing to record.\nApply a"
            " patch first."
        )
    tensors, layers = {}, []
    for number, (name, edited) in enumerate(edits):
        tensors[f"original.{number}"] = edited.original.cpu().contiguous()
        layers.append(
            {
                "layer": name,
                "original": sha256_tensor(edited.original),
                "written": edited.written,
                "patches": sorted(edited.patches),
            }
        )
        for k, sha in enumerate(sorted(edited.patches)):
            tensors[f"patch.{number}.{k}"] = torch.from_numpy(
                np.frombuffer(edited.patches[sha].content(), np.uint8).copy()
            )
    record = {"format": "slugkit-record", "version": 1, "layers": layers}
    write_bytes(
        path,
        bytes_of(
            tensors,
            {"slugkit": json.dumps(record | {"checksum": sha256_json(record)}, sort_keys=True)},
        ),
    )
    return Path(path)


def load_record(path: str | Path, model: Any, within: Callable[[str], list] | None = None) -> list:
    """Tell this process what another one did to the model, so that `remove` works.

    Returns the patches that are on it.

    within: the parts of the model in which a layer is looked for, where they are not the model's
    own.
    Raises PatchError, with nothing changed, for a file that is no sound record, or a model that
    does not hold what the record says was written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["slugkit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        known = _Record.model_validate(record)
        if known.checksum != sha256_json(
            {key: value for key, value in record.items() if key != "checksum"}
        ):
            raise ValueError("it was changed after it was written")
        entries = [_entry(entry, number, tensors) for number, entry in enumerate(known.layers)]
    except ValidationError as error:
        raise _unsound(path, f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from error
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        SafetensorError,
        PatchError,
    ) as error:
        raise _unsound(path, error) from error
    found = [
        _written_layers(entry, within(entry.layer) if within else parts(model))
        for entry, _, _ in entries
    ]
    for layers, (entry, original, patches) in zip(found, entries):
        for layer in layers:
            layer.know(original, entry.written, patches)
    return sorted(
        (p for _, _, patches in entries for p in patches.values()),
        key=lambda p: (p.layer, p.sha256),
    )


def _written_layers(entry: _Entry, within: list) -> list[on_model.Layer]:
    """The layer in each part of the model that holds what the record says was written.

    Raises PatchError where none does.
    """
    refusals, found = [], []
    for part in within:
        try:
            layer = on_model.find(entry.layer, "a record", part)
        except PatchError as refused:
            refusals.append(refused)
            continue
        found += [layer] if sha256_tensor(layer.weight) == entry.written else []
    if found:
        return found
    if refusals and len(refusals) == len(within):
        raise refusals[0]
    raise PatchError(
        f"layer {entry.layer} of this model does not hold what the record says was written; nothing"
        " was changed.\nUse the model that the record was saved with, in the same precision."
    )


def _entry(entry: _Entry, number: int, tensors: dict[str, torch.Tensor]) -> tuple:
    """The entry with its original and its patches.

    Raises ValueError, KeyError, PatchError where the file does not hold what it says.
    """
    original = tensors[f"original.{number}"]
    if sha256_tensor(original) != entry.original:
        raise ValueError("its original weight was changed after it was written")
    patches = [
        loads(tensors[f"patch.{number}.{k}"].numpy().tobytes(), f"patch {k} of the record")
        for k in range(len(entry.patches))
    ]
    if [p.sha256 for p in patches] != entry.patches:
        raise ValueError("its patches are not those it names")
    return entry, original, {p.sha256: p for p in patches}


def _unsound(path: Path, reason: Any) -> PatchError:
    reason = (
        f"it has no entry {reason}" if isinstance(reason, KeyError) else str(reason).splitlines()[0]
    )
    return PatchError(
        f"{path.name} is not a sound record of edits: {reason}.\nA record written by slugkit was"
        " expected. Nothing was changed."
    )
