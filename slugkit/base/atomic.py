"""Files that are there whole or not at all, also where a run is killed at any moment.

Each writer fills a temporary file beside the target, flushes it to the disk, and renames it.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slugkit.base.texts import to_cell


def replace_atomically(path: str | Path, write: Callable[[Path], Any]) -> Path:
    """Have `write` fill a file beside `path`, and rename it into place; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(f".tmp{path.suffix}", f".{path.stem}.", path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        write(beside)
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(0o666 & ~mask)
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
