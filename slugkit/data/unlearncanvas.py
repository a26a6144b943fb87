"""The UnlearnCanvas benchmark's names, prompt and pictures: 20 objects painted in 50 styles.

As in its repository (OPTML-Group/UnlearnCanvas, MIT licence); see `pages/unlearncanvas.md`. Every
style was painted from the same photographs, so a split goes by object and number: no photograph of
the search or of the report is in a set that a gradient sees, in whatever style.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import (
    EmptySetError,
    MissingArtefactError,
    SettingError,
    UnknownConceptError,
    nearest,
    require_choice,
    sha256_bytes,
)
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs, pairs_on_disk
from slugkit.data.pool import Drawn, PairsSource
from slugkit.data.source import Exam, Prompts, as_list

NAMES = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
STYLES, OBJECTS = tuple(NAMES["styles"]), tuple(NAMES["objects"])
"""The 51 outputs of the style classifier and the 20 of the object classifier, in their order."""
SEED_IMAGES = "Seed_Images"
"""The photographs from which the styles were painted: no style that is unlearned."""
ENDS = (".jpg", ".jpeg", ".png")
COLUMNS = {"style": "style", "object": "concept"}
"""Kind of a concept -> the column that holds it; its domain is the kind's plural."""
TURNS = ("report", "train", "search", "train")
"""The split of a photograph by its place in the order of hashes, over and over."""
PER_CELL = {"search": 1, "report": 0}
"""Pictures of each object in each style in an exam, beside all of the concept; 0 for all."""
PARTNERS = 5
"""Objects that a style is asked about with, and styles that an object is asked about with."""


def spoken(name: str) -> str:
    """A style or an object as a prompt says it: with blanks for underscores."""
    return name.replace("_", " ")


def prompt(name: str, style: str) -> str:
    """The benchmark's prompt for an object in a style: "A Dogs image in Van Gogh style." """
    return f"A {name} image in {spoken(style)} style."


def _other_words(name: str, style: str) -> str:
    """An object in a style as no prompt of the benchmark says it."""
    return f"{spoken(name)} painted in the manner of {spoken(style)}"


def concept_kind(concept: str) -> str:
    """ "style" or "object" for one of the 70 concepts. Raises UnknownConceptError."""
    if concept in OBJECTS:
        return "object"
    if concept in STYLES and concept != SEED_IMAGES:
        return "style"
    close = ", ".join(map(repr, nearest(concept, [*STYLES, *OBJECTS])))
    raise UnknownConceptError(
        f"UnlearnCanvas unlearns no concept {concept!r}; one of its 50 styles or 20 objects was"
        f" expected, with underscores. Nearest: {close or 'none'}."
    )


def is_unlearncanvas(folder: str | Path) -> bool:
    """Whether a folder holds one of an object in one of the benchmark's styles."""
    return any((Path(folder) / style / name).is_dir() for style in STYLES for name in OBJECTS)


def _numbered(folder: Path) -> list[Path]:
    """The pictures of one object in one style, by number. Raises SettingError."""
    files = [path for path in folder.glob("*") if path.suffix.lower() in ENDS]
    wrong = [path.name for path in files if not path.stem.isdigit()]
    if wrong:
        raise SettingError(
            f"{folder.parent.name}/{folder.name}/{wrong[0]} is not called by a number; 1.jpg to"
            " 20.jpg were expected. Take the data set as it is published."
        )
    return sorted(files, key=lambda path: int(path.stem))


def read_unlearncanvas(folder: str | Path, size: int = 224, fit: str = "crop") -> Pairs:
    """The data set's pictures, undecoded: `folder`/STYLE/OBJECT/N.jpg, or a part of the benchmark's
    51 styles; Seed_Images may also be called Seed_Image. Raises MissingArtefactError,
    EmptySetError, SettingError.
    """
    folder = Path(folder).expanduser().absolute()
    rows, found = [], []
    for style in STYLES:
        called = (style, "Seed_Image") if style == SEED_IMAGES else (style,)
        place = next((folder / name for name in called if (folder / name).is_dir()), None)
        found += [style] if place else []
        for name in OBJECTS if place else ():
            rows += [(style, name, str(path), path.name) for path in _numbered(place / name)]
    if not found:
        raise MissingArtefactError(
            f"The folder {folder.name!r} holds none of UnlearnCanvas's style folders. Get the data"
            " set from OPTML-Group (slugkit/data/pages/unlearncanvas.md)."
        )
    if not rows:
        raise EmptySetError(
            f"The style folders {', '.join(found[:3])} hold no picture in folders such as"
            f" {OBJECTS[0]}/; STYLE/OBJECT/N.jpg was expected."
        )
    table = pd.DataFrame(rows, columns=["style", "concept", "file", "name"])
    table["key"] = table["style"] + "/" + table["concept"] + "/" + table.pop("name")
    table["caption"] = list(map(prompt, table["concept"], table["style"]))
    table["split"] = splits_of(table["key"])
    return pairs_on_disk(table.assign(domain="objects"), size, fit)


def splits_of(keys: Sequence[str]) -> list[str]:
    """The split of every key STYLE/OBJECT/N.jpg, by the order of the SHA-256 of "OBJECT/N"."""
    photographs = [key.split("/", 1)[1].rpartition(".")[0] for key in keys]
    splits, taken = {}, Counter()
    for name in sorted(set(photographs), key=lambda name: sha256_bytes(name.encode())):
        thing = name.partition("/")[0]
        splits[name] = TURNS[taken[thing] % len(TURNS)]
        taken[thing] += 1
    return [splits[name] for name in photographs]


def _partners(names: Sequence[str], without: Sequence[str]) -> list[str]:
    left = [name for name in names if name not in without] or list(names)
    places = np.linspace(0, len(left) - 1, PARTNERS).round().astype(int)
    return [left[i] for i in dict.fromkeys(places.tolist())]


def class_prompts(
    concept: str | list[str] = "",
    styles: Sequence[str] = STYLES,
    objects: Sequence[str] = OBJECTS,
    split: str = "search",
) -> Prompts:
    """The styles about up to five objects, the objects in up to five styles: each is a wording, in
    the benchmark's prompts for the search, in others for the report. concept: one or several, named
    in the prompts of no other class.
    """
    gone = as_list(concept)
    things, looks = _partners(objects or OBJECTS, gone), _partners(styles or STYLES, gone)
    say = prompt if split == "search" else _other_words
    return {
        "styles": {f"about {t}": {s: [say(t, s)] for s in styles} for t in things},
        "objects": {f"in {s} style": {t: [say(t, s)] for t in objects} for s in looks},
    }


class CanvasSource(PairsSource):
    """An UnlearnCanvas folder as a source: its styles (kind "style") and objects ("object") of
    which it holds pictures of every split. It has no neighbours.
    """

    def __init__(self, folder: str | Path, size: int = 224, fit: str = "crop"):
        path = Path(folder).expanduser().absolute()
        super().__init__(read_unlearncanvas(path, size, fit), path.name, path)

    def concepts(self) -> list[str]:
        """Styles and objects with pictures of every split, in the benchmark's order."""
        table = self.pairs.table
        counts = pd.concat([table.groupby(c)["split"].nunique() for c in COLUMNS.values()])
        full = set(counts.index[counts == len(set(TURNS))]) - {SEED_IMAGES}
        return [name for name in (*STYLES, *OBJECTS) if name in full]

    def kind(self, concept: str) -> str:
        kind, there = concept_kind(concept), self.concepts()
        if concept not in there:
            raise UnknownConceptError(
                f"The folder {self.name!r} lacks pictures of {concept!r}: three photographs or more"
                " were expected, to learn from, to search and to report on. It has"
                f" {', '.join(there[:8]) or 'no concept whole'}. Unpack more of the data set."
            )
        return kind

    def neighbours(self, concept: str) -> list[str]:
        self.kind(concept)
        return []

    def _about(self, concept: str) -> Drawn:
        return (self._train.table[COLUMNS[self.kind(concept)]] == concept).to_numpy(), {}

    def _without(self, concepts: list[str]) -> Drawn:
        """The caption of Artist_Sketch names Sketch, so it goes with Sketch."""
        rest = np.ones(len(self._train), bool)
        for name in concepts:
            named = [names_concept(caption, spoken(name)) for caption in self._train.captions]
            rest &= ~self._about(name)[0] & ~np.array(named, bool)
        return rest, {}

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        for name in as_list(concept):
            self.kind(name)
        there = self.concepts()
        styles, objects = ([n for n in there if n in kind] for kind in (STYLES, OBJECTS))
        return class_prompts(concept, styles, objects, split)

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        require_choice(split, PER_CELL, "The split")
        kind, pairs = self.kind(concept), self.pairs.split(split)
        if (pairs.table[COLUMNS[kind]] == concept).all():
            raise EmptySetError(
                f"The {split} split of {self.name!r} holds pictures of {concept!r} alone; others"
                " were expected, to see what is lost. Unpack more of the data set."
            )
        most = per_style or PER_CELL[split]
        return self._examined(pairs, concept, split, f"{kind}s", ("style", "concept"), most)
