"""Pictures that are drawn into sets are decoded once, before anything is computed from them: a
broken one gives its place to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import (
    SettingError,
    UnreadableImagesError,
    cache_dir,
    cached_json,
    each,
    progress,
    sha256_json,
)

from .opening import MOST_BYTES, READ_ERRORS, open_rgb
from .pairs import Pairs
from .pictures import PLACE, Pictures
from .source import shuffled

LEFT_OUT, CHANGED = "left out", "changed"
BROKEN = "cannot be decoded"
PASSING = "it could not be opened: "
"""Begins the reason where the system refused, which says nothing about the picture: too many open files, no permission."""
VERSION = 1
"""Of what is kept about a list of pictures; one more whenever `slugkit.data.opening` takes or
changes others.
"""
NAMED, AT_ONCE = 1000, 500
"""Pictures of a kind that a table names, while it counts them all; pictures that are looked at
between two steps of the bar.
"""


def noted(listed: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """A table of what was left out or changed: columns what ("left out" or "changed"), why,
    pictures (how many), which (their names).

    listed: what, why and name of each picture, in any order.
    """
    table = pd.DataFrame(list(listed), columns=["what", "why", "name"])
    names = table.groupby(["what", "why"], sort=True)["name"]
    return (
        pd.DataFrame(
            {"pictures": names.size(), "which": names.agg(lambda some: ", ".join(some.head(NAMED)))}
        )
        .iloc[::-1]
        .reset_index()
    )


def _stamps(files: Iterable[str]) -> dict[str, list]:
    """Size and time of change of each file, of all files of a folder; nothing for what is not
    there.
    """
    stamps = {}
    for file in dict.fromkeys(files):
        stamps[file] = []
        with suppress(OSError):
            found = sorted(Path(file).iterdir()) if Path(file).is_dir() else [Path(file)]
            stamps[file] = [
                [status.st_size, status.st_mtime_ns] for status in (path.stat() for path in found)
            ]
    return stamps


class Looked:
    """What was found in the pictures of a source that sets were drawn from.

    found: key of a picture -> what was changed in it, or why it cannot be decoded (then the only
    entry begins with BROKEN). It is also kept under cache_dir(), by place, size and time of change,
    so that a set is decoded for this in one notebook only. Pictures in memory are whole.
    """

    def __init__(self):
        self.found: dict[str, list[str]] = {}

    def draw(self, pairs: Pairs, size: int, seed, what: str) -> Pairs:
        """`size` whole pairs at most, drawn without replacement, in their order; as `choose` draws
        where none is broken.

        Raises EmptySetError where there is no pair, UnreadableImagesError where no picture is
        whole.
        """
        order = shuffled(len(pairs), seed, what)
        chosen = self.whole(pairs, order, lambda rows: rows[:size])
        if not len(chosen):
            first = pairs.table["key"].iloc[0]
            raise UnreadableImagesError(
                f"None of the {len(pairs)} pictures for the {what} can be decoded; expected whole ones. The first, {first!r}, "
                f"{self.found[first][0]}. Mend or replace these pictures."
            )
        return pairs.take(np.sort(chosen))

    def whole(
        self,
        pairs: Pairs,
        rows: np.ndarray | None = None,
        cut: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    ) -> np.ndarray:
        """The rows that `cut` takes of `rows` (None: all), every one with a whole picture: `cut` is
        asked again without those that are broken.
        """
        rows = np.arange(len(pairs)) if rows is None else rows
        while True:
            chosen = cut(rows)
            broken = chosen[~self._fine(pairs, chosen)]
            if not len(broken):
                return chosen
            rows = rows[~np.isin(rows, broken)]

    def exam(
        self,
        pairs: Pairs,
        mine: np.ndarray,
        cut: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    ) -> Pairs:
        """The whole pairs of an exam, as `whole` takes them. mine: mask of the concept's own.
        Raises UnreadableImagesError where none of these is whole.
        """
        rows = self.whole(pairs, cut=cut)
        if not mine[rows].any():
            first = pairs.table["key"][np.flatnonzero(mine)[0]]
            raise UnreadableImagesError(
                f"None of the {mine.sum()} pictures of the concept in the exam can be decoded; expected whole ones. The first, {first!r}, "
                f"{self.found[first][0]}. Mend or replace these pictures."
            )
        return pairs.take(rows)

    def listed(self) -> list[tuple[str, str, str]]:
        """What, why and name of each picture that was left out or changed, as `noted` takes
        them.
        """
        told = [(key, *note.partition(": ")) for key, notes in self.found.items() for note in notes]
        return [
            (LEFT_OUT, BROKEN, f"{key} ({reason})") if why == BROKEN else (CHANGED, why, key)
            for key, why, _, reason in told
        ]

    def _fine(self, pairs: Pairs, rows: np.ndarray) -> np.ndarray:
        if not isinstance(pairs.images, Pictures):
            return np.ones(len(rows), bool)
        keys = pairs.table["key"].to_numpy()[rows]
        new = np.array([key not in self.found for key in keys], bool)
        self.found |= dict(zip(keys[new], self._notes(pairs.images.take(rows[new]))))
        return np.array(
            [not any(note.startswith(BROKEN) for note in self.found[key]) for key in keys], bool
        )

    def _notes(self, pictures: Pictures) -> list[list[str]]:
        if not len(pictures):
            return []
        stamps = _stamps(pictures.places["file"])
        places = [
            [*map(str, place), *stamps[place[0]]]
            for place in pictures.places[PLACE].itertuples(index=False)
        ]
        try:
            path = cache_dir() / f"looked-{sha256_json([VERSION, places])[:20]}.json"
        except (
            SettingError
        ):  # installed without the repository, and no folder named: nothing is kept
            return _look(pictures)
        return cached_json(path, lambda: _look(pictures), lasting=lambda notes: not any(
            note.startswith(f"{BROKEN}: {PASSING}") for found in notes for note in found
        ))


def _look(pictures: Pictures) -> list[list[str]]:
    parts = [
        range(start, min(start + AT_ONCE, len(pictures)))
        for start in range(0, len(pictures), AT_ONCE)
    ]
    found = (
        each(lambda row: _seen(pictures, row), part)
        for part in (progress(parts, "pictures looked at") if len(parts) > 1 else parts)
    )
    return [notes for part in found for notes in part]


def _seen(pictures: Pictures, row: int) -> list[str]:
    """What is changed in a picture, or the one entry that says why it cannot be decoded. A JPEG is
    reduced while it is decoded: that reads all of it and is quick.
    """
    try:
        if pictures.places["length"][row] > MOST_BYTES:
            raise ValueError(
                f"it has {pictures.places['length'][row]} bytes; at most {MOST_BYTES} were expected"
            )
        return open_rgb(pictures.encoded(row), draft=64)[1]
    except (UnreadableImagesError, *READ_ERRORS) as error:
        cause = error.__cause__ or error
        passing = isinstance(cause, OSError) and cause.errno is not None  # Pillow's own have none
        return [f"{BROKEN}: {PASSING if passing else ''}{error}"]
