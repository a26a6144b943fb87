"""Image-text pairs in memory, and how they are kept in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import MissingArtefactError, ShapeError, write_parquet

COLUMNS = ["key", "caption", "concept", "domain", "style", "split"]


@dataclass
class Pairs:
    """N pictures with their captions.

    images: (N, H, W, 3) uint8, RGB. table: one row a picture with at least `key` (unique), `caption`, `concept` (the class
    it shows; "" for a scene with several things), `domain` (figures, objects, ..., "" where there is no class), `style`
    ("" where styles are not a domain) and `split`. Raises ShapeError when they do not match.
    """

    images: np.ndarray
    table: pd.DataFrame

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ShapeError(f"Pictures arrived as {self.images.dtype} {self.images.shape}; expected uint8 (N, height, width, 3).")
        if len(self.images) != len(self.table):
            raise ShapeError(f"{len(self.images)} pictures came with {len(self.table)} rows; expected one row a picture.")
        missing = [c for c in COLUMNS if c not in self.table]
        if missing:
            raise ShapeError(f"The table lacks the columns {missing}; expected {COLUMNS}.")
        self.table = self.table.reset_index(drop=True)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def captions(self) -> list[str]:
        """The captions in order."""
        return self.table["caption"].tolist()

    @property
    def labels(self) -> list[str]:
        """What tells two pictures of a batch apart: concept and style, or the caption where no concept is known."""
        return [f"{c}|{s}" if c else t for c, s, t in zip(self.table["concept"], self.table["style"], self.table["caption"])]

    def take(self, rows) -> "Pairs":
        """The pairs of these rows, in this order."""
        rows = np.asarray(rows, dtype=int)
        return Pairs(self.images[rows], self.table.iloc[rows])

    def where(self, mask) -> "Pairs":
        """The pairs where the mask is true."""
        return self.take(np.flatnonzero(np.asarray(mask)))

    def split(self, name: str) -> "Pairs":
        """The pairs of one split."""
        return self.where(self.table["split"] == name)

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.parquet and, losslessly, `name`.png: all pictures in one sheet, 32 a row."""
        folder.mkdir(parents=True, exist_ok=True)
        n, h, w, _ = self.images.shape
        sheet = np.zeros((-(-n // 32) * h, 32 * w, 3), np.uint8)
        for i, picture in enumerate(self.images):
            y, x = i // 32 * h, i % 32 * w
            sheet[y:y + h, x:x + w] = picture
        temporary = folder / f".{name}.png.part"
        Image.fromarray(sheet).save(temporary, format="PNG")
        temporary.replace(folder / f"{name}.png")
        write_parquet(folder / f"{name}.parquet", self.table.assign(height=h, width=w))


def load_pairs(folder: Path, name: str) -> Pairs:
    """Read what `Pairs.save` wrote. Raises MissingArtefactError when it is not there or incomplete."""
    table_file, sheet_file = folder / f"{name}.parquet", folder / f"{name}.png"
    if not table_file.is_file() or not sheet_file.is_file():
        raise MissingArtefactError(f"{folder.name}/{name} is not there; expected {name}.parquet and {name}.png. "
                                   "Run notebook 01 (data curation) for this run.")
    table = pd.read_parquet(table_file)
    h, w = int(table["height"].iloc[0]), int(table["width"].iloc[0])
    sheet = np.asarray(Image.open(sheet_file).convert("RGB"))
    images = np.stack([sheet[i // 32 * h:i // 32 * h + h, i % 32 * w:i % 32 * w + w] for i in range(len(table))])
    return Pairs(images, table.drop(columns=["height", "width"]))
