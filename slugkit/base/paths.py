"""Where things lie. Every path of the workbook is derived from `root()`, never from the current folder."""

import os
from pathlib import Path

from slugkit.base.errors import SettingError

MARKERS = ("pyproject.toml", "slugkit")


def _is_root(folder: Path) -> bool:
    return all((folder / marker).exists() for marker in MARKERS)


def root() -> Path:
    """The repository's top folder, absolute.

    Looked for in this order: the environment variable SLUGKIT_ROOT, the folder above this file, the
    current folder and the folders above it. Raises SettingError where none of them is the repository.
    """
    named = os.environ.get("SLUGKIT_ROOT")
    if named:
        folder = Path(named).expanduser().resolve()
        if not folder.is_dir():
            raise SettingError(
                f"SLUGKIT_ROOT names {folder}, which is no folder; the repository's top folder was expected. "
                "Correct the variable or unset it."
            )
        return folder
    above = Path(__file__).resolve().parents[2]
    here = Path.cwd().resolve()
    for folder in (above, here, *here.parents):
        if _is_root(folder):
            return folder
    raise SettingError(
        "The workbook's repository was not found; a folder holding pyproject.toml and slugkit/ was expected. "
        "Start inside the repository, or set SLUGKIT_ROOT to it."
    )


def _from_environment(variable: str, otherwise: Path) -> Path:
    named = os.environ.get(variable)
    return Path(named).expanduser().resolve() if named else otherwise


def runs_dir() -> Path:
    """Folder that holds one folder per run: $SLUGKIT_RUNS, or `runs/` of the repository. Not created here."""
    return _from_environment("SLUGKIT_RUNS", root() / "runs")


def cache_dir() -> Path:
    """Folder for what can be made again at any time: $SLUGKIT_CACHE, or `.cache` among the runs. Not created here."""
    return _from_environment("SLUGKIT_CACHE", runs_dir() / ".cache")


def data_dir() -> Path:
    """Folder `data/` of the repository: trained weights, the world's definition, published figures."""
    return root() / "data"


def notebooks_dir() -> Path:
    """Folder `notebooks/` of the repository: the ordered series."""
    return root() / "notebooks"
