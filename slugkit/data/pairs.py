"""Image-text pairs, in memory or on disk, and how they are kept in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import (
    MissingArtefactError,
    ShapeError,
    replace_atomically,
    sha256_bytes,
    sha256_json,
    write_parquet,
)
from slugkit.data.pictures import PLACE, Pictures

PREFIX, PER_ROW = "place_", 32
COLUMNS = ["key", "caption", "concept", "domain", "style", "split"]


@dataclass
class Pairs:
    """N pictures with their captions.

    images: (N, H, W, 3) uint8, RGB, or `Pictures`. table: one row a picture with at least `key`
    (unique), `caption`, `concept` (the class it shows), `domain` (figures, objects, ...), `style`
    and `split`; "" where there is none. Raises ShapeError.
    """

    images: np.ndarray | Pictures
    table: pd.DataFrame

    def __post_init__(self):
        found, rows = self.images.shape, len(self.table)
        if len(found) != 4 or found[-1] != 3 or self.images.dtype != np.uint8 or found[0] != rows:
            raise ShapeError(
                f"Pictures arrived as {self.images.dtype} {found} with {rows} rows; expected uint8"
                " (N, height, width, 3) and one row a picture."
            )
        missing = [c for c in COLUMNS if c not in self.table]
        if missing:
            raise ShapeError(f"The table lacks the columns {missing}; expected {COLUMNS}.")
        self.table = self.table.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def on_disk(self) -> bool:
        """Whether the pictures are `Pictures`."""
        return isinstance(self.images, Pictures)

    @property
    def captions(self) -> list[str]:
        """The captions in order."""
        return self.table["caption"].tolist()

    @property
    def labels(self) -> list[str]:
        """What tells two pictures of a batch apart: concept and style, or else the caption."""
        columns = (self.table[name] for name in ("concept", "style", "caption"))
        return [f"{c}|{s}" if c else t for c, s, t in zip(*columns)]

    @property
    def sha256(self) -> str:
        """Hash of the pictures' pixels (of those on disk, of their encoded bytes) in this order."""
        if not self.on_disk:
            return sha256_bytes(self.images.tobytes())
        hashes = [sha256_bytes(self.images.encoded(row)) for row in range(len(self))]
        return sha256_json([self.images.size, self.images.fit, *hashes])

    def take(self, rows) -> Pairs:
        """The pairs of these rows, in this order."""
        rows = np.asarray(rows, dtype=int)
        images = self.images.take(rows) if self.on_disk else self.images[rows]
        return Pairs(images, self.table.iloc[rows])

    def where(self, mask) -> Pairs:
        """The pairs where the mask is true."""
        return self.take(np.flatnonzero(np.asarray(mask)))

    def split(self, name: str) -> Pairs:
        """The pairs of one split."""
        return self.where(self.table["split"] == name)

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.parquet and, of pictures in memory, `name`.png: one lossless sheet."""
        count, h, w, _ = self.images.shape
        table = self.table.assign(height=h, width=w)
        if self.on_disk:
            places = self.images.places.add_prefix(PREFIX)
            table = pd.concat([table, places], axis=1).assign(fit=self.images.fit)
        else:
            rows = -(-count // PER_ROW)
            sheet = np.zeros((rows * PER_ROW, h, w, 3), np.uint8)
            sheet[:count] = self.images
            sheet = sheet.reshape(rows, PER_ROW, h, w, 3).swapaxes(1, 2)
            picture = Image.fromarray(sheet.reshape(rows * h, PER_ROW * w, 3))
            png = folder / f"{name}.png"
            replace_atomically(png, lambda beside: picture.save(beside, "PNG"))
        write_parquet(folder / f"{name}.parquet", table)


def pairs_on_disk(table: pd.DataFrame, size: int, fit: str) -> Pairs:
    """Pairs whose pictures lie where the columns of PLACE say; of these only `file` is needed."""
    missing = {name: -1 for name in PLACE} | {name: "" for name in COLUMNS}
    table = table.assign(**{name: value for name, value in missing.items() if name not in table})
    return Pairs(Pictures(table[PLACE], size, fit), table.drop(columns=PLACE))


def joined(parts: list[Pairs]) -> Pairs:
    """Sets of pictures on disk, of one size and fit, as one; the columns that all sets have."""
    places, first = pd.concat([part.images.places for part in parts]), parts[0].images
    table = pd.concat([part.table[COLUMNS] for part in parts], ignore_index=True)
    return Pairs(Pictures(places, first.size, first.fit), table)


def load_pairs(folder: Path, name: str) -> Pairs:
    """Read what `Pairs.save` wrote. Raises MissingArtefactError."""
    table_file, sheet_file = folder / f"{name}.parquet", folder / f"{name}.png"
    table = pd.read_parquet(table_file) if table_file.is_file() else None
    on_disk = table is not None and f"{PREFIX}file" in table
    if table is None or not (on_disk or sheet_file.is_file()):
        raise MissingArtefactError(
            f"{folder.name}/{name} is not there; expected {name}.parquet and {name}.png. "
            "Run notebook 01 (data curation) for this run."
        )
    h, w = int(table["height"].iloc[0]), int(table["width"].iloc[0])
    if on_disk:
        fit, columns = table["fit"].iloc[0], {PREFIX + c: c for c in PLACE}
        table = table.drop(columns=["height", "width", "fit"]).rename(columns=columns)
        return pairs_on_disk(table, h, fit)
    sheet = np.asarray(Image.open(sheet_file).convert("RGB"))
    images = sheet.reshape(-1, h, PER_ROW, w, 3).swapaxes(1, 2).reshape(-1, h, w, 3)
    return Pairs(images[: len(table)], table.drop(columns=["height", "width"]))
