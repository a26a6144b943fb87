"""A person's own pictures: a folder of images with captions.csv.

captions.csv has the columns `file` (path inside the folder) and `caption`; `concept` (the class a picture shows; without
it, the concept is looked for in the captions) and `split` (train, search, report; without it, assigned by a hash of the
file's name, 60 : 20 : 20) are optional.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from slugkit.base import EmptySetError, SettingError, UnknownConceptError, UnreadableImagesError, nearest, sha256_bytes

from .pairs import Pairs
from .source import Exam, as_list, choose

SPLITS = ("train", "search", "report")
TOO_MANY_UNREADABLE = 0.05


def names_concept(caption: str, concept: str) -> bool:
    """Whether the caption holds the concept as whole words, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(concept)}(?!\w)", caption, flags=re.IGNORECASE) is not None


def read_captions(folder: Path) -> pd.DataFrame:
    """captions.csv, checked: columns file, caption, concept, split. Raises SettingError or EmptySetError."""
    path = Path(folder) / "captions.csv"
    if not path.is_file():
        raise SettingError(f"The data folder {Path(folder).name!r} has no captions.csv; expected one with the columns file and "
                           "caption (concept and split are optional).")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    missing = [c for c in ("file", "caption") if c not in table]
    if missing:
        raise SettingError(f"captions.csv lacks the columns {missing}; it has {list(table.columns)}. Expected file and caption.")
    if table.empty:
        raise EmptySetError("captions.csv has no rows; expected one for each picture.")
    if "concept" not in table:
        table["concept"] = ""
    if "split" not in table:
        table["split"] = [("train", "train", "train", "search", "report")[int(sha256_bytes(f.encode())[:8], 16) % 5]
                          for f in table["file"]]
    wrong = sorted(set(table["split"]) - set(SPLITS))
    if wrong:
        raise SettingError(f"captions.csv names the splits {wrong}; expected only {list(SPLITS)}.")
    if table["file"].duplicated().any():
        raise SettingError(f"captions.csv names a file twice: {table['file'][table['file'].duplicated()].iloc[0]!r}. Expected one row a file.")
    return table


def read_folder(folder: str | Path, size: int = 64) -> Pairs:
    """Every readable picture, resized to `size` x `size`. Unreadable ones are counted and named in `table.attrs`.

    Raises UnreadableImagesError when more than 5 % cannot be read, SettingError for a path that leaves the folder.
    """
    folder = Path(folder).expanduser().resolve()
    table = read_captions(folder)
    images, keep, broken = [], [], []
    for i, name in enumerate(table["file"]):
        path = (folder / name).resolve()
        if not path.is_relative_to(folder):
            raise SettingError(f"captions.csv names {name!r}, which lies outside the folder; expected paths inside it.")
        try:
            with Image.open(path) as picture:
                images.append(np.asarray(picture.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)))
            keep.append(i)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            broken.append(name)
    if len(broken) > TOO_MANY_UNREADABLE * len(table) or not images:
        raise UnreadableImagesError(f"{len(broken)} of {len(table)} pictures cannot be read (first: {broken[0]!r}); expected at most "
                                    f"{TOO_MANY_UNREADABLE:.0%}. Mend or remove those rows of captions.csv.")
    table = table.iloc[keep].assign(key=lambda t: t["file"], domain="classes", style="")
    table.attrs["unreadable"] = broken
    return Pairs(np.stack(images), table)


class FolderSource:
    """A folder with captions.csv as a source. Concepts are the classes of the `concept` column."""

    def __init__(self, folder: str | Path):
        self.path = Path(folder).expanduser()
        self.name = self.path.name
        self.pairs = read_folder(self.path)
        self.unreadable = self.pairs.table.attrs.get("unreadable", [])

    def concepts(self) -> list[str]:
        """The classes, in alphabetical order."""
        return sorted({c for c in self.pairs.table["concept"] if c})

    def kind(self, concept: str) -> str:
        """Always "class"; raises UnknownConceptError naming the nearest when no picture carries the concept."""
        if concept not in self.concepts():
            close = ", ".join(repr(n) for n in nearest(concept, self.concepts()))
            raise UnknownConceptError(f"The data folder has no concept {concept!r}; expected a value of the concept column of "
                                      f"captions.csv. Nearest: {close}.")
        return "class"

    def neighbours(self, concept: str) -> list[str]:
        """Classes whose mean training picture is nearest in pixels: three at most."""
        train = self.pairs.split("train")
        means = {c: train.images[(train.table["concept"] == c).to_numpy()].astype(np.float32).mean(0) for c in self.concepts()}
        return sorted((c for c in means if c != concept), key=lambda c: float(((means[c] - means[concept]) ** 2).mean()))[:3]

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pairs that carry the concept, or name it in their caption."""
        self.kind(concept)
        train = self.pairs.split("train")
        mine = train.where([c == concept or (not c and names_concept(t, concept)) for c, t in zip(train.table["concept"], train.captions)])
        return mine.take(choose(len(mine), size, [seed, 11], "forget set"))

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0, draw: int = 0) -> Pairs:
        """Training pairs that neither carry nor name the concept (or any of several)."""
        train, without = self.pairs.split("train"), as_list(concept)
        rest = train.where([c not in without and not any(names_concept(t, name) for name in without) for c, t in zip(train.table["concept"], train.captions)])
        return rest.take(choose(len(rest), size, [seed, 12, draw], "retain set"))

    def prompts(self, concept: str) -> dict[str, dict[str, list[str]]]:
        """The commonest caption templates of the training split, filled with each class."""
        train = self.pairs.split("train").table
        templates = Counter(re.sub(re.escape(c), "{}", t, count=1, flags=re.IGNORECASE)
                            for c, t in zip(train["concept"], train["caption"]) if c and names_concept(t, c))
        common = [t for t, _ in templates.most_common(3)] or ["{}", "a photo of {}"]
        return {"classes": {c: [t.replace("{}", c) for t in common] for c in self.concepts()}}

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All labelled pictures of a split (search or report)."""
        self.kind(concept)
        pairs = self.pairs.split(split)
        pairs = pairs.where(pairs.table["concept"] != "")
        if not (pairs.table["concept"] == concept).any():
            raise EmptySetError(f"The {split} split holds no picture of {concept!r}; expected at least one. Mark some rows of "
                                f"captions.csv with split {split}.")
        return Exam(pairs, concept, "class", "classes", self.prompts(concept), self.neighbours(concept), split)
