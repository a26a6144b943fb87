"""A person's own pictures: a folder of images with captions.csv (its columns: see
`slugkit.data.tables`).
"""

from __future__ import annotations

from pathlib import Path

from slugkit.base import SettingError
from slugkit.data.pairs import Pairs
from slugkit.data.pool import PairsSource
from slugkit.data.reading import Reading
from slugkit.data.tables import read_table


def read_folder(folder: str | Path, size: int = 64, fit: str = "crop") -> Pairs:
    """Every readable picture that captions.csv names, left on disk and read at `size` x `size`
    pixels (see `Pictures` for size and fit).

    Paths must lie inside the folder. Unreadable pictures are counted and named in
    `table.attrs["unreadable"]`. Raises what `read_table` raises, and SettingError where there is no
    captions.csv.
    """
    path = Path(folder).expanduser() / "captions.csv"
    if not path.is_file():
        raise SettingError(
            f"The data folder {Path(folder).name!r} has no captions.csv; expected one with the"
            " columns file and caption (concept and split are optional)."
        )
    return read_table(path, size, fit, inside=True)


class FolderSource(PairsSource):
    """A folder with captions.csv as a source.

    Concepts are the classes of the `concept` column, or the names in the captions where it has
    none.
    """

    def __init__(
        self, folder: str | Path, size: int = 64, fit: str = "crop", reading: Reading | None = None
    ):
        path = Path(folder).expanduser()
        super().__init__(read_folder(path, size, fit), path.name, path, reading)
