"""Image-text pairs, in memory or on disk, and how they are kept in a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from slugkit.base import MissingArtefactError, ShapeError, sha256_bytes, sha256_json, write_parquet
from slugkit.data.pictures import PLACE, Pictures, whole_files

PREFIX = "place_"
COLUMNS = ["key", "caption", "concept", "domain", "style", "split"]


@dataclass
class Pairs:
    """N pictures with their captions.

    images: (N, H, W, 3) uint8, RGB, or `Pictures`, which are decoded when they are asked for.
    table: one row a picture with at least `key` (unique), `caption`, `concept` (the class it shows;
    "" for a scene with several things), `domain` (figures, objects, ..., "" where there is no
    class), `style` ("" where styles are not a domain) and `split`. Raises ShapeError when they do
    not match.
    """

    images: np.ndarray | Pictures
    table: pd.DataFrame

    def __post_init__(self):
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            raise ShapeError(
                f"Pictures arrived as {self.images.dtype} {self.images.shape}; expected uint8 (N,"
                " height, width, 3)."
            )
        if len(self.images) != len(self.table):
            raise ShapeError(
                f"{len(self.images)} pictures came with {len(self.table)} rows; expected one row a"
                " picture."
            )
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
        """What tells two pictures of a batch apart: concept and style, or the caption where no
        concept is known.
        """
        columns = (self.table[name] for name in ("concept", "style", "caption"))
        return [f"{c}|{s}" if c else t for c, s, t in zip(*columns)]

    @property
    def sha256(self) -> str:
        """Hash of the pictures' pixels (of those on disk, of their encoded bytes) in this order."""
        if not isinstance(self.images, Pictures):
            return sha256_bytes(self.images.tobytes())
        hashes = [sha256_bytes(self.images.encoded(row)) for row in range(len(self))]
        return sha256_json([self.images.size, self.images.fit, *hashes])

    def take(self, rows) -> Pairs:
        """The pairs of these rows, in this order."""
        rows = np.asarray(rows, dtype=int)
        on_disk = isinstance(self.images, Pictures)
        return Pairs(
            self.images.take(rows) if on_disk else self.images[rows], self.table.iloc[rows]
        )

    def where(self, mask) -> Pairs:
        """The pairs where the mask is true."""
        return self.take(np.flatnonzero(np.asarray(mask)))

    def split(self, name: str) -> Pairs:
        """The pairs of one split."""
        return self.where(self.table["split"] == name)

    def save(self, folder: Path, name: str) -> None:
        """Write `name`.parquet and, losslessly, `name`.png: all pictures in one sheet, 32 a row.

        Of pictures on disk only the places are written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.images, Pictures):
            places = self.images.places.add_prefix(PREFIX).set_axis(self.table.index)
            size = {"height": self.images.size, "width": self.images.size, "fit": self.images.fit}
            whole = pd.concat([self.table, places], axis=1).assign(**size)
            write_parquet(folder / f"{name}.parquet", whole)
            return
        n, h, w, _ = self.images.shape
        sheet = np.zeros((-(-n // 32) * h, 32 * w, 3), np.uint8)
        for i, picture in enumerate(self.images):
            y, x = i // 32 * h, i % 32 * w
            sheet[y : y + h, x : x + w] = picture
        temporary = folder / f".{name}.png.part"
        Image.fromarray(sheet).save(temporary, format="PNG")
        temporary.replace(folder / f"{name}.png")
        write_parquet(folder / f"{name}.parquet", self.table.assign(height=h, width=w))


def pairs_of_files(files: list[Path], size: int, fit: str, **columns) -> Pairs:
    """Pairs of pictures that are a file each, undecoded. columns: of the table; those that `Pairs`
    needs are "" where they are not given.
    """
    table = pd.DataFrame({name: columns.get(name, "") for name in COLUMNS} | columns)
    return Pairs(Pictures(whole_files(files), size, fit), table)


def load_pairs(folder: Path, name: str) -> Pairs:
    """Read what `Pairs.save` wrote.

    Raises MissingArtefactError when it is not there or incomplete.
    """
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
        columns = [PREFIX + c for c in PLACE]
        places = table[columns].set_axis(PLACE, axis=1)
        pictures = Pictures(places, h, table["fit"].iloc[0])
        return Pairs(pictures, table.drop(columns=["height", "width", "fit", *columns]))
    sheet = np.asarray(Image.open(sheet_file).convert("RGB"))
    corners = [(i // 32 * h, i % 32 * w) for i in range(len(table))]
    images = np.stack([sheet[y : y + h, x : x + w] for y, x in corners])
    return Pairs(images, table.drop(columns=["height", "width"]))
