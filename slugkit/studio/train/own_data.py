"""A CLIP on a person's own folder: what its card will need is looked at before the first step, and
the steps follow the size of the data.
"""

from __future__ import annotations

import csv
from pathlib import Path

from slugkit.base import EmptySetError, SettingError, nearest
from slugkit.data import FolderSource
from slugkit.data.tables import CAPTIONS, FILES

MEANT = (
    *("label", "labels", "class", "classes", "category", "name", "person", "subject"),
    *("species", "identity", "target"),
)
"""What columns are called that hold classes."""
LEAST, A_CLASS, PASSES = 700, 20, 5
"""Optimiser steps: as many at least, so many for each class, and so many that every picture is seen
five times.
"""


def steps_for(classes: int, pictures: int, batch: int) -> int:
    """Optimiser steps for a folder with so many classes and training pictures. 155 classes end at
    44 % after 700 steps and at 85 % after 3,000.
    """
    return max(LEAST, A_CLASS * classes, PASSES * pictures // batch)


def require_examinable(folder: str | Path) -> int:
    """The number of classes of a folder, once it is sure that a CLIP trained on it can be examined.

    Raises SettingError where no picture has a class, naming the columns that could be meant, or all
    have the same one; EmptySetError where no picture of a
    class is kept for the report; and what `FolderSource` raises.
    """
    source = FolderSource(folder)
    classes = source.concepts()
    if len(classes) < 2:
        columns = _columns(Path(folder).expanduser() / "captions.csv")
        raise SettingError(_too_few(source.name, classes, columns))
    shown = set(source.pairs.split("report").table["concept"]) - {""}
    if not shown:
        raise EmptySetError(
            f"The folder {source.name!r} keeps no labelled picture for the report, so nothing could"
            " be said about a CLIP trained on it. Mark some rows of captions.csv with split"
            " report, or leave out the column split: it is then assigned."
        )
    return len(classes)


def _columns(file: Path) -> list[str]:
    line = file.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0]
    names = next(csv.reader([line], delimiter=max(",;\t", key=line.count)), [])
    return [name.strip() for name in names]


def _too_few(name: str, classes: list[str], columns: list[str]) -> str:
    if classes:
        return (
            f"All labelled pictures of the folder {name!r} show {classes[0]!r}; two classes or "
            "more were expected in the column concept of captions.csv."
        )
    if "concept" in columns:
        return (
            f"The column concept of {name}/captions.csv is empty; the class that a picture shows "
            "was expected in it."
        )
    others = [column for column in columns if column not in (*FILES, *CAPTIONS, "split")]
    meant = [c for c in others if c.lower() in MEANT or nearest(c.lower(), MEANT, n=1)]
    hint = "Add it, with the class that a picture shows."
    if meant:
        hint = f"Rename {' or '.join(meant)} to concept, if that is what a picture shows."
    return (
        f"{name}/captions.csv has no column concept, by which a CLIP trained on it is examined; it "
        f"has {', '.join(columns)}. {hint}"
    )
