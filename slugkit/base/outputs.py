"""Where a command may write: a name that is not taken, outside of what it reads."""

import json
import os
import struct
from pathlib import Path
from typing import Any

from slugkit.base.errors import SettingError

HEADER = 1 << 20
"""Bytes of a file that are looked at, at most."""
TABLES = ({"concept", "weights"}, {"tower", "draws", "measure"})
"""Columns by which the tables of `slugkit sweep` are known."""
BEFORE_WEIGHTS = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("vocab.json", "merges.txt"),
}
"""What a training leaves in its folder before its weights."""
UNREADABLE = (OSError, ValueError, TypeError, AttributeError, struct.error, RecursionError)


def _card(folder: Path) -> Any:
    return json.loads((folder / "model_card.json").read_bytes()[:HEADER])


def is_finished(folder: str | Path) -> bool:
    """Whether a training wrote its folder to the end: its card holds scores, which come last."""
    try:
        return "scores" in _card(Path(folder))
    except UNREADABLE:
        return False


def is_ours(path: str | Path) -> bool:
    """Whether slugkit wrote a patch, record, sweep's table, pairs of LAION, or trained model.

    A folder that a training was cut off in, or an empty one, counts as well.
    """
    path = Path(path)
    try:
        if path.is_dir():
            if (path / "model_card.json").is_file():
                return "weights_sha256" in _card(path)
            return {inside.name for inside in path.iterdir()} <= BEFORE_WEIGHTS
        if not path.is_file():
            return False
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return read_schema(path).names == ["url", "caption"]
        with path.open("rb") as stream:
            head = stream.read(HEADER)
        if path.suffix == ".csv":
            columns = set(head.split(b"\n")[0].decode().strip().split(","))
            return any(known <= columns for known in TABLES)
        header = head[8 : 8 + struct.unpack("<Q", head[:8])[0]]
        return "slugkit" in json.loads(header).get("__metadata__", {})
    except UNREADABLE:
        return False


def new_path(out: str | Path, *inputs: str | Path | None, ours: bool = False) -> Path:
    """`out`, where a command may write there. Nothing is made. Raises: SettingError.

    Args:
        inputs: files and folders that are read; None and names of no file are left out.
        ours: what slugkit wrote may be written anew.
    """
    out, whole = Path(out).expanduser(), Path(out).expanduser().resolve()
    for source in (Path(source).expanduser() for source in inputs if source is not None):
        read = source.resolve()
        if source.exists() and (whole.is_relative_to(read) or read.is_relative_to(whole)):
            raise SettingError(
                f"{out} is what is read here ({source}), or one of them lies inside the other. "
                "Choose another name. Nothing was changed."
            )
    if (os.path.lexists(out) or whole.exists()) and not (ours and is_ours(whole)):
        what = ", and slugkit did not write it" if ours else ""
        advice = "Choose another name, or delete it. Nothing was changed."
        raise SettingError(f"{out} is there already{what}; a new name was expected. {advice}")
    return out
