"""UnlearnCanvas's folder as a source: its styles and objects are the concepts.

Every style was painted from the same photographs, so a split goes by object and number: no
photograph of the search or of the report is in a set that a gradient sees, in whatever style.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, UnknownConceptError, require_choice, sha256_bytes
from slugkit.data.looked import Looked
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs
from slugkit.data.source import Exam, Prompts, Source, as_list
from slugkit.data.unlearncanvas import (
    OBJECTS,
    SEED_IMAGES,
    STYLES,
    canvas_forget_set,
    canvas_retain_set,
    concept_kind,
    prompt,
    read_unlearncanvas,
    spoken,
)

DOMAINS = {"style": "styles", "object": "objects"}
"""Kind of a concept -> the domain in which it is examined."""
TURNS = ("report", "train", "search", "train")
"""The split of a photograph by its place in the order of hashes, over and over."""
PER_CELL = {"search": 1, "report": 0}
"""Pictures of each object in each style in an exam, 0 for all."""
PARTNERS = 5
"""Objects that a style is asked about with, and styles that an object is asked about with."""


def splits_of(table: pd.DataFrame) -> list[str]:
    """The split of every row, by the order of the SHA-256 of "OBJECT/NUMBER"."""
    numbers = [Path(key).stem for key in table["key"]]
    photographs = list(zip(table["concept"], numbers))
    hashed = {pair: sha256_bytes("/".join(pair).encode()) for pair in photographs}
    splits, taken = {}, Counter()
    for thing, number in sorted(hashed, key=hashed.get):
        splits[thing, number] = TURNS[taken[thing] % len(TURNS)]
        taken[thing] += 1
    return [splits[pair] for pair in photographs]


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
    """The styles about up to five objects, the objects in up to five styles: each is a wording.

    The search asks in the benchmark's prompts, the report in others. concept: one or several, named
    in the prompts of no other class.
    """
    gone = as_list(concept)
    things, looks = _partners(objects or OBJECTS, gone), _partners(styles or STYLES, gone)
    say = prompt if split == "search" else _other_words
    return {
        "styles": {f"about {t}": {s: [say(t, s)] for s in styles} for t in things},
        "objects": {f"in {s} style": {t: [say(t, s)] for t in objects} for s in looks},
    }


def _other_words(name: str, style: str) -> str:
    """An object in a style as no prompt of the benchmark says it."""
    return f"{spoken(name)} painted in the manner of {spoken(style)}"


class CanvasSource(Source):
    """An UnlearnCanvas folder as a source.

    Concepts are the styles (kind "style") and objects ("object") of which it holds pictures of
    every split. It has no neighbours: looking alike in pixels says little about objects.
    """

    def __init__(self, folder: str | Path, size: int = 224, fit: str = "crop"):
        self.path = Path(folder).expanduser().absolute()
        self.name = self.path.name
        self.pairs, self.looked = read_unlearncanvas(self.path, size, fit), Looked()
        self.pairs.table["split"] = splits_of(self.pairs.table)

    def concepts(self) -> list[str]:
        """Styles and objects with pictures of every split, in the benchmark's order."""
        table = self.pairs.table
        counts = pd.concat([table.groupby(c)["split"].nunique() for c in ("style", "concept")])
        full = set(counts.index[counts == len(set(TURNS))]) - {SEED_IMAGES}
        return [name for name in (*STYLES, *OBJECTS) if name in full]

    def kind(self, concept: str) -> str:
        """ "style" or "object"; UnknownConceptError too where the folder holds too little of it."""
        kind, there = concept_kind(concept), self.concepts()
        if concept not in there:
            raise UnknownConceptError(
                f"The folder {self.name!r} lacks pictures of {concept!r}: three photographs or more"
                " were expected, to learn from, to search and to report on. It has"
                f" {', '.join(there[:8]) or 'no concept whole'}. Unpack more of the data set."
            )
        return kind

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pictures of the style over the objects, or of the object over the styles."""
        self.kind(concept)
        mine = canvas_forget_set(self.pairs.split("train"), concept)
        return self.looked.draw(mine, size, [seed, 11], "forget set")

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        """As everywhere; the caption of Artist_Sketch names Sketch, so it goes with Sketch."""
        rest = self.pairs.split("train")
        for name in as_list(concept):
            self.kind(name)
            rest = canvas_retain_set(rest, name)
            named = [names_concept(caption, spoken(name)) for caption in rest.captions]
            rest = rest.where(~np.array(named, bool))
        return self.looked.draw(rest, size, [seed, 12, 0], "retain set")

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """`class_prompts` of the styles and objects that the folder holds."""
        for name in as_list(concept):
            self.kind(name)
        there = self.concepts()
        styles, objects = ([n for n in there if n in kind] for kind in (STYLES, OBJECTS))
        return class_prompts(concept, styles, objects, split)

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All pictures of the concept in one split, and of each object in each style one (search),
        all (report) or `per_style`.
        """
        require_choice(split, PER_CELL, "The split")
        kind = self.kind(concept)
        pairs, most = self.pairs.split(split), per_style or PER_CELL[split]
        mine = (pairs.table["style" if kind == "style" else "concept"] == concept).to_numpy()
        if mine.all():
            raise EmptySetError(
                f"The {split} split of {self.name!r} holds pictures of {concept!r} alone; others"
                " were expected, to see what is lost. Unpack more of the data set."
            )
        cell = pairs.table[["style", "concept"]]

        def cut(rows: np.ndarray) -> np.ndarray:
            if not most:
                return rows
            place = cell.iloc[rows].groupby(["style", "concept"]).cumcount()
            return rows[mine[rows] | (place < most)]

        return self._examined(pairs, concept, split, DOMAINS[kind], cut)
