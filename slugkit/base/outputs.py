"""Where a command may write: a name that is not taken, outside of what it reads; over a file only
if slugkit wrote it.
"""

import json
import os
import struct
from pathlib import Path

from slugkit.base.errors import SettingError

HEADER = 1 << 20
"""Bytes of a file that are looked at, at most."""
TABLES = ({"concept", "weights"}, {"tower", "draws", "measure"})
"""Columns by which the tables of `slugkit sweep` are known."""
BEFORE_WEIGHTS = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
}
"""What a training leaves in its folder before its weights."""


def is_finished(folder: str | Path) -> bool:
    """Whether a training wrote its folder to the end: its card holds scores, which come last."""
    try:
        return "scores" in json.loads((Path(folder) / "model_card.json").read_bytes()[:HEADER])
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def is_ours(path: str | Path) -> bool:
    """Whether slugkit wrote a file or a model's folder: a patch, a record, a sweep's table, pairs
    of LAION, a training with its card.

    A folder that a training was cut off in, or an empty one, counts as well.
    """
    path = Path(path)
    try:
        if path.is_dir():
            card = path / "model_card.json"
            known = json.loads(card.read_bytes()[:HEADER]) if card.is_file() else None
            return (
                "weights_sha256" in known
                if known
                else {p.name for p in path.iterdir()} <= BEFORE_WEIGHTS
            )
        if not path.is_file():
            return False
        if path.suffix == ".parquet":
            from pyarrow.parquet import read_schema

            return read_schema(path).names == ["url", "caption"]
        with path.open("rb") as stream:
            head = stream.read(HEADER)
        if path.suffix == ".csv":
            return any(
                columns <= set(head.split(b"\n")[0].decode().strip().split(","))
                for columns in TABLES
            )
        header = head[8 : 8 + struct.unpack("<Q", head[:8])[0]]
        return "slugkit" in json.loads(header).get("__metadata__", {})
    except (OSError, ValueError, TypeError, AttributeError, struct.error, RecursionError):
        return False


def new_path(out: str | Path, *inputs: str | Path | None, ours: bool = False) -> Path:
    """Where a command writes: a name that is not taken, outside of what it reads. Returns it;
    nothing is made.

    inputs: files and folders that are read; None and names of no file are left out. ours: what
    slugkit wrote may be
    written anew. Raises SettingError.
    """
    out, whole = Path(out).expanduser(), Path(out).expanduser().resolve()
    for source in (Path(source).expanduser() for source in inputs if source is not None):
        if not source.exists():
            continue
        inside = source.is_dir() and source.resolve() in whole.parents
        if inside or whole == source.resolve() or whole in source.resolve().parents:
            raise SettingError(
                f"{out} is what is read here ({source}), or one of them lies inside the other; "
                "another place was expected. "
                "Choose another name. Nothing was changed."
            )
    if (os.path.lexists(out) or whole.exists()) and not (ours and is_ours(whole)):
        what = ", and slugkit did not write it" if ours else ""
        raise SettingError(
            f"{out} is there already{what}; a new name was expected, so that nothing is "
            "overwritten. Choose another one, or delete it. "
            "Nothing was changed."
        )
    return out
