"""What can be made again at any time, kept in a file with its hash.

A file that is cut short or altered is made again; one that cannot be written stops nothing.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from slugkit.base.atomic import write_json, write_tensors
from slugkit.base.hashing import sha256_json, sha256_tensor

HASH = "sha256"


def _hash(tensors: dict[str, Any], metadata: dict[str, str]) -> str:
    return sha256_json(
        [{name: sha256_tensor(tensor) for name, tensor in tensors.items()}, metadata]
    )


def read_hashed(path: str | Path) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Tensors and metadata that `write_hashed` left; None where the file is missing or broken."""
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    with suppress(OSError, SafetensorError):
        with safe_open(path, "pt") as opened:
            metadata = opened.metadata() or {}
        if HASH in metadata:
            tensors, noted = load_file(path), metadata.pop(HASH)
            if noted == _hash(tensors, metadata):
                return tensors, metadata
    return None


def write_hashed(
    path: str | Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None
) -> Path:
    """`write_tensors` with a hash of the tensors and of the metadata."""
    metadata = metadata or {}
    return write_tensors(path, tensors, {**metadata, HASH: _hash(tensors, metadata)})


def cached_tensors(path: str | Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The tensors that `make` gives, from the file of an earlier call if it is whole."""
    kept = read_hashed(path)
    if kept is not None:
        return kept[0]
    tensors = make()
    with suppress(OSError):
        write_hashed(path, tensors)
    return tensors


def cached_json(
    path: str | Path, make: Callable[[], Any], lasting: Callable[[Any], bool] = lambda value: True
) -> Any:
    """The JSON value that `make` gives, from the file of an earlier call if it is whole.

    lasting: whether a value that was made is worth keeping.
    """
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        if kept[HASH] == sha256_json(kept["value"]):
            return kept["value"]
    value = make()
    if lasting(value):
        with suppress(OSError):
            write_json(path, {HASH: sha256_json(value), "value": value})
    return value
