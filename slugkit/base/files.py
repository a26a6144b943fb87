"""Files: written whole or not at all, hashed, and kept for what can be made again.

Each writer fills a file beside the target, flushes it to the disk, and renames it. Hashes are
SHA-256 as 64 lower-case hex digits.
"""

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from slugkit.base.names import to_cell

HASH = "sha256"


def replace_atomically(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Have `write` fill a file beside `path`, and rename it into place; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp{path.suffix}")
    try:
        beside.touch()
        usual = beside.stat().st_mode
        write(beside)
        beside.chmod(usual)
        with open(beside, "rb+") as stream:
            os.fsync(stream.fileno())
        return beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path` atomically, making parent folders; returns the path."""
    return replace_atomically(path, lambda beside: beside.write_bytes(data))


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` as UTF-8 to `path` atomically, line ends unchanged; returns the path."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """Write a JSON value to `path` atomically, indented by 2, keys in order; returns the path."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_parquet(path: str | Path, frame: Any) -> Path:
    """Write a pandas DataFrame without its index to `path` atomically; returns the path."""
    return replace_atomically(path, lambda beside: frame.to_parquet(beside, index=False))


def write_csv(path: str | Path, frame: Any) -> Path:
    """Write a pandas DataFrame without its index to `path` as CSV, atomically; returns the path.

    Texts that a spreadsheet would run as formulas get an apostrophe before them.
    """
    frame = frame.rename(columns=to_cell)
    for name in frame.select_dtypes(exclude=["number", "bool", "datetime", "timedelta"]):
        frame[name] = frame[name].astype(object).map(to_cell)
    return replace_atomically(
        path, lambda beside: frame.to_csv(beside, index=False, lineterminator="\n")
    )


def write_tensors(
    path: str | Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None
) -> Path:
    """Write named torch tensors to `path` as safetensors, atomically; returns the path."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return replace_atomically(path, lambda beside: save_file(plain, str(beside), metadata=metadata))


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, read a piece at a time. Raises: OSError."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_tensor(tensor: Any) -> str:
    """SHA-256 of a torch tensor: its dtype, shape and raw bytes in C order, so -0.0 is not 0.0."""
    import torch

    plain = tensor.detach().cpu().contiguous()
    head = f"{str(plain.dtype).removeprefix('torch.')}:{','.join(map(str, plain.shape))}:".encode()
    digest = hashlib.sha256(head)
    digest.update(plain.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys. Raises: TypeError for another."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return sha256_bytes(text.encode())


def sha256_tree(folder: str | Path, pattern: str = "*") -> str:
    """SHA-256 of the names and contents of all files below `folder` that match `pattern`.

    Empty folders, times and permissions do not count; `__pycache__` is left out.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob(pattern), key=lambda p: p.relative_to(folder).as_posix()):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


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
    """The tensors that `make` gives, from the file of an earlier call if it is whole.

    A file that cannot be written stops nothing.
    """
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
    """As `cached_tensors`, of a JSON value; it is kept where `lasting` says so of it."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        if kept[HASH] == sha256_json(kept["value"]):
            return kept["value"]
    value = make()
    if lasting(value):
        with suppress(OSError):
            write_json(path, {HASH: sha256_json(value), "value": value})
    return value
