"""Where things lie: every path of the workbook is derived from `root()`."""

import difflib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from slugkit.base.errors import SettingError

MARKERS = ("pyproject.toml", "slugkit")


def root() -> Path:
    """The repository's top folder: $SLUGKIT_ROOT, or above this file, or above the current folder.

    Raises: SettingError where none of them is the repository.
    """
    named = os.environ.get("SLUGKIT_ROOT")
    if named:
        folder = Path(named).expanduser().resolve()
        if not folder.is_dir():
            raise SettingError(
                f"SLUGKIT_ROOT names {folder}, which is no folder. Correct or unset it."
            )
        return folder
    here = Path.cwd().resolve()
    for folder in (Path(__file__).resolve().parents[2], here, *here.parents):
        if all((folder / marker).exists() for marker in MARKERS):
            return folder
    raise SettingError(
        f"A folder holding {' and '.join(MARKERS)} was expected here or above. Start inside the"
        " workbook's repository, or set SLUGKIT_ROOT to it."
    )


def in_repository() -> bool:
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
    here = root() if in_repository() else Path.cwd()
    return _from_environment("SLUGKIT_RUNS") or here / "runs"


def cache_dir() -> Path:
    """Folder for what can be made again: $SLUGKIT_CACHE, or `.cache` among the runs, or
    `~/.cache/slugkit` where there is no repository.
    """
    named = _from_environment("SLUGKIT_CACHE")
    if named or in_repository() or os.environ.get("SLUGKIT_RUNS"):
        return named or runs_dir() / ".cache"
    return Path.home() / ".cache" / "slugkit"


def data_dir() -> Path:
    """Folder `data/` of the repository, or the package slugkit-studio: trained weights, the world,
    published figures.

    Raises: SettingError where neither is here.
    """
    if in_repository():
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
    """`name` with the file or folder of this machine that it names made absolute, if there is one.

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
