"""Where things lie: every path of the workbook is derived from `root()`, and none is overwritten
that a command may not write.
"""

import difflib
import importlib.util
import json
import os
import re
import struct
import sys
from pathlib import Path
from typing import Any

from slugkit.base.errors import SettingError

MARKERS = ("pyproject.toml", "slugkit")
MOST_BYTES = 1 << 20
"""Bytes of a file that are looked at, at most, to tell whether slugkit wrote it."""
TABLES = ({"concept", "weights"}, {"tower", "draws", "measure"})
"""Columns by which the tables of `slugkit sweep` are known."""
BEFORE_WEIGHTS = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("vocab.json", "merges.txt"),
}
"""What a training leaves in its folder before its weights."""
UNREADABLE = (OSError, ValueError, TypeError, AttributeError, struct.error, RecursionError)


def root() -> Path:
    """The repository's top folder: $SLUGKIT_ROOT, or above this file, or above the current folder.

    Raises: SettingError where none of them is the repository.
    """
    if folder := _from_environment("SLUGKIT_ROOT"):
        if not folder.is_dir():
            wrong = f"SLUGKIT_ROOT names {folder}, which is no folder"
            raise SettingError(f"{wrong}. Correct or unset it.")
        return folder
    here = Path.cwd().resolve()
    for folder in (Path(__file__).resolve().parents[2], here, *here.parents):
        if all((folder / marker).exists() for marker in MARKERS):
            return folder
    raise SettingError(
        f"A folder holding {' and '.join(MARKERS)} was expected here or above. Start inside the"
        " workbook's repository, or set SLUGKIT_ROOT to it."
    )


def _in_repository() -> bool:
    """Whether there is a repository; where slugkit alone was installed there is none."""
    try:
        return root().is_dir()
    except SettingError:
        if os.environ.get("SLUGKIT_ROOT"):
            raise
        return False


def _from_environment(variable: str) -> Path | None:
    named = os.environ.get(variable)
    return Path(named).expanduser().resolve() if named else None


def runs_dir() -> Path:
    """Folder that holds one folder per run: $SLUGKIT_RUNS, or `runs/` of the repository, or of the
    current folder where there is none.
    """
    here = root() if _in_repository() else Path.cwd()
    return _from_environment("SLUGKIT_RUNS") or here / "runs"


def cache_dir() -> Path:
    """Folder for what can be made again: $SLUGKIT_CACHE, or `.cache` among the runs, or
    `~/.cache/slugkit` where there is no repository.
    """
    named = _from_environment("SLUGKIT_CACHE")
    if named or _in_repository() or os.environ.get("SLUGKIT_RUNS"):
        return named or runs_dir() / ".cache"
    return Path.home() / ".cache" / "slugkit"


def data_dir() -> Path:
    """Folder `data/` of the repository, or the package slugkit-studio: trained weights, the world,
    published figures.

    Raises: SettingError where neither is here.
    """
    if _in_repository():
        return root() / "data"
    package = importlib.util.find_spec("slugkit_studio")
    if package is None or not package.submodule_search_locations:
        raise SettingError(
            "The studio's models and pictures are a package of their own, and it is not installed."
            " Run `pip install slugkit-studio`, or start inside the workbook's repository."
        )
    return Path(package.submodule_search_locations[0])


def notebooks_dir() -> Path:
    """Folder `notebooks/` of the repository: the ordered series."""
    return root() / "notebooks"


def plain_name(name: str) -> str:
    """`name`, where it can be a folder's. Raises: SettingError for one that leads elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise SettingError(
            f"{name!r} arrived as a name; a plain folder name (letters, digits, . "
            "_ -; not starting with . or -) was expected."
        )
    return name


def run_folder(run: str) -> Path:
    """Folder of one run, which need not exist. Raises: SettingError for a name of no folder."""
    return runs_dir() / plain_name(run)


def absolute_path(name: str) -> str:
    """`name` with the file or folder that it names made absolute; any other text as it is.

    Also one behind an architecture and a colon. It is looked for from the current folder; what
    only lies beside the notebooks, where they run, is left as it is, and so is studio.
    """
    head, colon, tail = name.partition(":")
    for before, rest in (("", name), (head + colon, tail if Path(tail).suffix else "")):
        path = Path(rest).expanduser()
        pattern = path.suffix == ".tar" and len(path.parts) > 1 and path.parent.is_dir()
        if rest and not rest.startswith("studio") and (path.exists() or pattern):
            return before + str(path.absolute())
    return name


def mistyped(name: str) -> str:
    """A sentence for a name that can only be a path that is not there; "" for any other.

    Such a name begins like a path, or lies beside something of nearly that name.
    """
    path = Path(name).expanduser()
    like = name.startswith((".", "~", "/"))
    if path.exists() or name.startswith("studio") or ":" in name and not like:
        return ""
    beside = sorted(found.name for found in path.parent.iterdir()) if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.75)
    if not (like or close):
        return ""
    hint = f"; did you mean {str(path.parent / close[0])!r}?" if close else "."
    return f"There is no file or folder {name!r} on this machine{hint}"


_LOOKED_FOR: list[str] = []
_INSIDE: list[str] = []


def look_for(path: str | Path) -> Path:
    """`path`, noted as one that results hang on, whether it is there or comes later."""
    _LOOKED_FOR.append(str(path))
    return Path(path)


def looked_for() -> list[str]:
    """Every path given to `look_for`, and every file of data/ read since the first call."""
    inside = str(data_dir()) + os.sep
    if not _INSIDE:
        sys.addaudithook(_note_opened)
    if inside not in _INSIDE:
        _INSIDE.append(inside)
    return _LOOKED_FOR


def _note_opened(event: str, given: tuple[Any, ...]) -> None:
    if event != "open" or not isinstance(given[0], str) or (given[1] or "r")[0] != "r":
        return
    if given[0].startswith(tuple(_INSIDE)):
        _LOOKED_FOR.append(given[0])


def _card(folder: Path) -> Any:
    return json.loads((folder / "model_card.json").read_bytes()[:MOST_BYTES])


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
            head = stream.read(MOST_BYTES)
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
        raise SettingError(
            f"{out} is there already{what}; a new name was expected. Choose another name, or"
            " delete it. Nothing was changed."
        )
    return out
