"""Pictures of a set are decoded before anything is computed; a broken one gives way to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import (
    EmptySetError,
    SettingError,
    UnreadableImagesError,
    cache_dir,
    cached_json,
    each,
    progress,
    sha256_json,
)
from slugkit.data.opening import MOST_BYTES, READ_ERRORS, open_rgb
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import PLACE, Pictures

LEFT_OUT, CHANGED = "left out", "changed"
BROKEN = "cannot be decoded"
PASSING = "it could not be opened: "
"""Begins the reason where the system refused, which says nothing about the picture."""
VERSION = 1
"""Of what is kept about pictures; one more whenever `slugkit.data.opening` decides otherwise."""
Cut = Callable[[np.ndarray], np.ndarray]
"""Which of these rows are taken, in their order."""
NAMED, AT_ONCE = 1000, 500
"""Pictures of a kind that a table names, and that are looked at between two steps of the bar."""


def shuffled(count: int, seed, what: str) -> np.ndarray:
    """`count` rows in the order in which they are drawn. Raises EmptySetError for none."""
    if count == 0:
        raise EmptySetError(
            f"The {what} is empty: no training pair qualifies. Expected at least one; check the"
            " concept's spelling in the captions and the split column."
        )
    return np.random.Generator(np.random.PCG64(seed)).permutation(count)


def choose(count: int, size: int, seed, what: str) -> np.ndarray:
    """`size` of `count` rows, drawn without replacement and sorted. Raises EmptySetError."""
    return np.sort(shuffled(count, seed, what)[:size])


def first_of_each(groups: pd.DataFrame, most: int, always: np.ndarray) -> Cut:
    """Takes the first `most` rows of each group (0: all), and those that are `always` taken."""

    def cut(rows: np.ndarray) -> np.ndarray:
        place = groups.iloc[rows].groupby(list(groups)).cumcount().to_numpy()
        return rows[(place < most) | always[rows]] if most else rows

    return cut


def noted(listed: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """A table (what, why, pictures, which) of what was left out or changed: (what, why, name)."""
    table = pd.DataFrame(list(listed), columns=["what", "why", "name"])
    names = table.groupby(["what", "why"], sort=True)["name"]
    which = names.agg(lambda some: ", ".join(some.head(NAMED)))
    return pd.DataFrame({"pictures": names.size(), "which": which}).iloc[::-1].reset_index()


class Looked:
    """What was found in the pictures of a source that sets were drawn from.

    found: key of a picture -> what was changed in it, or why it cannot be decoded (the only entry
    then, which begins with BROKEN); kept under cache_dir() too. Pictures in memory are whole.
    """

    def __init__(self):
        self.found: dict[str, list[str]] = {}

    def draw(self, pairs: Pairs, size: int, seed, what: str) -> Pairs:
        """`size` whole pairs at most, in their order, drawn as `choose` does."""
        order = shuffled(len(pairs), seed, what)
        chosen = self.whole(pairs, order, lambda rows: rows[:size])
        self._require(len(chosen), f"{len(pairs)} pictures for the {what}", pairs, 0)
        return pairs.take(np.sort(chosen))

    def exam(self, pairs: Pairs, mine: np.ndarray, cut: Cut | None = None) -> Pairs:
        """The whole pairs of an exam; raises where none of `mine` (the concept's own) is whole."""
        rows, what = self.whole(pairs, cut=cut), f"{mine.sum()} pictures of the concept in the exam"
        self._require(mine[rows].any(), what, pairs, int(mine.argmax()))
        return pairs.take(rows)

    def _require(self, found, what: str, pairs: Pairs, row: int) -> None:
        """Raises UnreadableImagesError where nothing was found."""
        if not found:
            first = pairs.table["key"].iloc[row]
            raise UnreadableImagesError(
                f"None of the {what} can be decoded; expected whole ones. The first, {first!r}, "
                f"{self.found[first][0]}. Mend or replace these pictures."
            )

    def whole(
        self, pairs: Pairs, rows: np.ndarray | None = None, cut: Cut | None = None
    ) -> np.ndarray:
        """What `cut` takes of `rows` (None: all); asked again without what is broken."""
        rows = np.arange(len(pairs)) if rows is None else rows
        while True:
            chosen = rows if cut is None else cut(rows)
            broken = chosen[~self._fine(pairs, chosen)]
            if not len(broken):
                return chosen
            rows = rows[~np.isin(rows, broken)]

    def listed(self) -> list[tuple[str, str, str]]:
        """What, why and name of each picture that was left out or changed, for `noted`."""
        told = []
        for key, note in ((key, note) for key, notes in self.found.items() for note in notes):
            why, _, reason = note.partition(": ")
            broken = (LEFT_OUT, BROKEN, f"{key} ({reason})")
            told.append(broken if why == BROKEN else (CHANGED, why, key))
        return told

    def _fine(self, pairs: Pairs, rows: np.ndarray) -> np.ndarray:
        if not pairs.on_disk:
            return np.ones(len(rows), bool)
        keys = pairs.table["key"].to_numpy()[rows]
        new = np.array([key not in self.found for key in keys], bool)
        if new.any():
            self.found |= dict(zip(keys[new], _notes(pairs.images.take(rows[new]))))
        return np.array([not "".join(self.found[key][:1]).startswith(BROKEN) for key in keys], bool)


def _stamp(place: str) -> list:
    """Size and time of change of a file, or of all in a folder; nothing where it is missing."""
    path = Path(place)
    with suppress(OSError):
        found = sorted(path.iterdir()) if path.is_dir() else [path]
        return [[about.st_size, about.st_mtime_ns] for about in map(Path.stat, found)]
    return []


def _notes(pictures: Pictures) -> list[list[str]]:
    """What is found in each picture, from the cache where it was looked at before."""
    stamps = {file: _stamp(file) for file in pictures.places["file"].unique()}
    where = pictures.places[PLACE].itertuples(index=False)
    places = [[*map(str, place), *stamps[place[0]]] for place in where]
    try:
        path = cache_dir() / f"looked-{sha256_json([VERSION, places])[:20]}.json"
    except SettingError:  # installed without the repository, no folder named: nothing is kept
        return _look(pictures)

    def lasting(notes: list[list[str]]) -> bool:
        passing = f"{BROKEN}: {PASSING}"
        return not any(note.startswith(passing) for found in notes for note in found)

    return cached_json(path, lambda: _look(pictures), lasting)


def _look(pictures: Pictures) -> list[list[str]]:
    count = len(pictures)
    parts = [range(i, min(i + AT_ONCE, count)) for i in range(0, count, AT_ONCE)]
    shown = progress(parts, "pictures looked at") if len(parts) > 1 else parts
    found = (each(lambda row: _seen(pictures, row), part) for part in shown)
    return [notes for part in found for notes in part]


def _seen(pictures: Pictures, row: int) -> list[str]:
    """What is changed in a picture, or the one entry that says why it cannot be decoded."""
    try:
        length = pictures.places["length"][row]
        if length > MOST_BYTES:
            raise ValueError(f"it has {length} bytes; at most {MOST_BYTES} were expected")
        return open_rgb(pictures.encoded(row), draft=64)[1]
    except (UnreadableImagesError, *READ_ERRORS) as error:
        cause = error.__cause__ or error
        passing = isinstance(cause, OSError) and cause.errno is not None  # Pillow's own have none
        return [f"{BROKEN}: {PASSING if passing else ''}{error}"]
