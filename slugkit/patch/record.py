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

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from safetensors.torch import save as bytes_of

from slugkit.base import PatchError, sha256_json, sha256_tensor, write_bytes
from slugkit.models.weight_map import parts
from slugkit.patch.format import UNSOUND, Sha256, loads, require_checksum, unsound
from slugkit.patch.on_model import Edited, Layer, edits_of, find, in_order


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    layer: str
    original: Sha256
    written: Sha256
    patches: Annotated[list[Sha256], Field(min_length=1)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    format: Literal["slugkit-record"]
    version: Literal[1]
    layers: Annotated[list[_Entry], Field(min_length=1)]
    checksum: Sha256


def save_record(model: Any, path: str | Path) -> Path:
    """Write what this process did to the model: the original of every edited layer, and its
    patches. Whoever has the record can undo the edit.

    model: or a list of copies of it, each of which may be in another precision. Returns the path.
    Raises PatchError where no patch is on the model.
    """
    copies = model if isinstance(model, list) else [model]
    edits = {(edit.layer, edit.written): edit for one in copies for edit in edits_of(one)}
    if not edits:
        raise PatchError(
            "no patch is on this model in this process, so there is nothing to record.\nApply a"
            " patch first."
        )
    tensors, layers = {}, []
    for number, (_, edit) in enumerate(sorted(edits.items())):
        names, original = sorted(edit.patches), edit.original.cpu().contiguous()
        tensors[f"original.{number}"] = original
        for k, sha in enumerate(names):
            content = bytearray(edit.patches[sha].content())
            tensors[f"patch.{number}.{k}"] = torch.frombuffer(content, dtype=torch.uint8)
        known = {"layer": edit.layer, "written": edit.written, "patches": names}
        layers.append(known | {"original": sha256_tensor(original)})
    record = {"format": "slugkit-record", "version": 1, "layers": layers}
    text = json.dumps(record | {"checksum": sha256_json(record)}, sort_keys=True)
    write_bytes(path, bytes_of(tensors, {"slugkit": text}))
    return Path(path)


def load_record(path: str | Path, model: Any, within: Callable[[str], list] | None = None) -> list:
    """Tell this process what another one did to the model, so that `remove` works.

    within: the parts of the model in which a layer is looked for, where they are not the model's
    own. Returns the patches that are on it. Raises PatchError, with nothing changed, for a file
    that is no sound record, or a model that does not hold what the record says was written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["slugkit"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        known = _Record.model_validate(record).layers
        require_checksum(record)
        held = [_held(entry, number, tensors) for number, entry in enumerate(known)]
    except (OSError, *UNSOUND) as error:
        raise unsound(path.name, "record of edits", error) from error
    found = [_written(entry, within(entry.layer) if within else parts(model)) for entry in known]
    for entry, layers, (original, patches) in zip(known, found, held, strict=True):
        for layer in layers:
            layer.know(Edited(layer.name, original, patches, entry.written))
    return in_order(p for _, patches in held for p in patches.values())


def _written(entry: _Entry, within: list) -> list[Layer]:
    """The layer in each part of the model that holds what the record says was written; PatchError
    where none does.
    """
    refusals, layers = [], []
    for part in within:
        try:
            layers.append(find(entry.layer, "a record", part))
        except PatchError as refused:
            refusals.append(refused)
    if refusals and not layers:
        raise refusals[0]
    found = [layer for layer in layers if sha256_tensor(layer.weight) == entry.written]
    if not found:
        raise PatchError(
            f"layer {entry.layer} of this model does not hold what the record says was written;"
            " nothing was changed.\nUse the model that the record was saved with, in the same"
            " precision."
        )
    return found


def _held(entry: _Entry, number: int, tensors: dict[str, torch.Tensor]) -> tuple:
    """The original and the patches of an entry; ValueError, KeyError or PatchError where the file
    does not hold what it says.
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
    return original, {p.sha256: p for p in patches}
