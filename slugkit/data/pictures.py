"""Pictures on disk that look like an array: (N, size, size, 3) uint8, each decoded when asked for.

A place is a file, a part of a file (a member of a tar shard), or a row of a data set that
`datasets.save_to_disk` wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import SettingError, UnreadableImagesError, each, require_choice
from slugkit.data.opening import READ_ERRORS, open_rgb, plain_file

PLACE = ["file", "offset", "length", "row"]
KEPT_BYTES = 2**30
"""Most that decoded pictures of one set may take in memory: about 7,000 of 224 pixels."""
FITS = ("crop", "squash")
_OPENING = Lock()
"""A data set is opened by one thread."""


def as_square(picture: Image.Image, size: int, fit: str = "crop") -> np.ndarray:
    """An RGB picture as a CLIP's preprocessing cuts it: (size, size, 3) uint8, not normalised.

    fit: "crop" brings the shorter edge to `size` and takes the middle, "squash" changes the
    proportions (open_clip's resize_mode "shortest" and "squash").
    """
    from torchvision.transforms import functional as F

    if picture.size != (size, size):
        edges = [size, size] if fit == "squash" else size
        picture = F.resize(picture, edges, F.InterpolationMode.BICUBIC)
        picture = F.center_crop(picture, [size, size])
    return np.asarray(picture)


@dataclass
class Pictures:
    """N pictures by their places; indexing decodes them or raises UnreadableImagesError.

    places: columns file (absolute path), offset and length (bytes inside the file; -1: all), row
    (of a `datasets` folder; -1: none). A decoded picture is kept for all sets that `take` made of
    this one while they stay below `KEPT_BYTES` together.
    """

    places: pd.DataFrame
    size: int
    fit: str = "crop"
    _sets: dict = field(default_factory=dict, repr=False)
    _kept: dict[tuple, np.ndarray] = field(default_factory=dict, repr=False)
    dtype, ndim = np.dtype(np.uint8), 4

    def __post_init__(self):
        require_choice(self.fit, FITS, "The way to fit a picture")
        if self.size < 1:
            raise SettingError(f"Pictures of 1 pixel or more were expected; {self.size} came.")
        self.places = self.places[PLACE].reset_index(drop=True)
        self._where = list(self.places.itertuples(index=False, name=None))

    def __len__(self) -> int:
        return len(self.places)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, size, size, 3)."""
        return len(self), self.size, self.size, 3

    def take(self, rows) -> Pictures:
        """The pictures of these rows, in this order, still on disk."""
        places = self.places.iloc[np.asarray(rows, dtype=int)]
        return Pictures(places, self.size, self.fit, self._sets, self._kept)

    def encoded(self, row: int) -> bytes:
        """The picture's own bytes (a PNG, a JPEG, ...). Raises UnreadableImagesError."""
        file, offset, length, number = self._where[row]
        try:
            if number >= 0:
                return self._of_set(file, int(number))
            if offset < 0:
                return plain_file(file).read_bytes()
            with open(file, "rb") as stream:
                stream.seek(offset)
                found = stream.read(length)
            if len(found) < length:
                raise ValueError(f"the file ends before the picture at byte {offset}")
            return found
        except (OSError, ValueError) as error:
            raise UnreadableImagesError(
                f"The picture in {file} cannot be read: {error}. The file was expected as it was"
                " when the set was made; put it back, or run notebook 01 again."
            ) from error

    def _of_set(self, folder: str, number: int) -> bytes:
        with _OPENING:
            if folder not in self._sets:
                import datasets

                table = datasets.load_from_disk(folder)
                table = table.cast_column("image", datasets.Image(decode=False))
                self._sets[folder] = table.with_format(None)
        found = self._sets[folder][number]["image"]
        data = found["bytes"]
        return plain_file(found["path"]).read_bytes() if data is None else data

    def decode(self, row: int) -> np.ndarray:
        """(size, size, 3) uint8, not to be written into. Raises UnreadableImagesError."""
        place = self._where[row]
        if place in self._kept:
            return self._kept[place]
        try:
            found = as_square(open_rgb(self.encoded(row))[0], self.size, self.fit)
        except READ_ERRORS as error:
            raise UnreadableImagesError(
                f"The picture in {place[0]} ({place[1]}, {place[3]}) cannot be decoded: {error}. A"
                " PNG, JPEG or another format that Pillow opens was expected."
            ) from error
        if (len(self._kept) + 1) * found.nbytes <= KEPT_BYTES:
            self._kept[place] = found
        return found

    def __getitem__(self, key) -> np.ndarray:
        rows = np.arange(len(self))[key]
        if np.ndim(rows) == 0:
            return self.decode(int(rows))
        found = np.empty((len(rows), self.size, self.size, 3), np.uint8)

        def put(number: int) -> None:
            found[number] = self.decode(int(rows[number]))

        each(put, range(len(rows)))
        return found

    def __iter__(self):
        return (self.decode(row) for row in range(len(self)))

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)
