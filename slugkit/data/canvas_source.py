"""UnlearnCanvas's folder as a source: its styles and objects are the concepts, its pictures are
split into train, search and report.

Every style was painted from the same photographs, so that the pictures of one object and one number
show one photograph in every style. A split therefore goes by object and number: no photograph of
the search or of the report is in a set that a gradient sees, in whatever style.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, UnknownConceptError, require_choice, sha256_bytes
from slugkit.data.looked import Looked, noted
from slugkit.data.names import names_concept
from slugkit.data.pairs import Pairs
from slugkit.data.source import Exam, Prompts, as_list
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
"""The split of a photograph by its place in the order of hashes, over and over: of 20 photographs
of an object 10, 5 and 5 are for train, search and report.
"""
PER_CELL = {"search": 1, "report": 0}
"""Pictures of each object in each style in an exam, 0 for all; the concept's own are never left
out.
"""
PARTNERS = 5
"""Objects that a style is asked about with, and styles that an object is asked about with, evenly
over the benchmark's lists.
"""


def splits_of(table: pd.DataFrame) -> list[str]:
    """train, search or report for every row of `read_unlearncanvas`'s table: by object and number,
    whatever the style.

    The numbers of an object are ordered by the SHA-256 of "OBJECT/NUMBER" and take their turns in
    `TURNS`, so the split is the same on every machine.
    """
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
    """The styles about up to five objects, and the objects in up to five styles, each of which is a
    wording: in the search the benchmark's prompts, in the report others.

    concept: one or several, named in the prompts of no other class, since what is to be forgotten
    must not stand for what is to be kept.
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


class CanvasSource:
    """An UnlearnCanvas folder as a source (`slugkit.data.source.Source`).

    Concepts are those of its 50 styles (kind "style") and 20 objects ("object") of which the folder
    holds pictures of every split; captions are the benchmark's prompts.

    Pictures stay on disk, undecoded. Opening raises what `read_unlearncanvas` raises. size, fit:
    see `slugkit.data.pictures.Pictures`.
    """

    def __init__(self, folder: str | Path, size: int = 224, fit: str = "crop"):
        self.path = Path(folder).expanduser().absolute()
        self.name = self.path.name
        self.pairs, self.looked = read_unlearncanvas(self.path, size, fit), Looked()
        self.pairs.table["split"] = splits_of(self.pairs.table)

    def concepts(self) -> list[str]:
        """Styles and objects with at least one picture for train, search and report, in the
        benchmark's order.
        """
        table = self.pairs.table
        full = {
            name
            for column in ("style", "concept")
            for name, splits in table.groupby(column)["split"]
            if splits.nunique() == len(set(TURNS))
        }
        return [name for name in (*STYLES, *OBJECTS) if name in full and name != SEED_IMAGES]

    def kind(self, concept: str) -> str:
        """ "style" or "object".

        Raises UnknownConceptError for a name that the benchmark does not unlearn, or of which the
        folder holds too little.
        """
        kind, there = concept_kind(concept), self.concepts()
        if concept not in there:
            more = ", ..." if len(there) > 8 else ""
            listed = f"{', '.join(there[:8]) or 'no concept whole'}{more}"
            raise UnknownConceptError(
                f"The folder {self.name!r} lacks pictures of {concept!r}: three photographs or more"
                f" were expected, to learn from, to search and to report on. It has {listed}."
                " Unpack more of the data set."
            )
        return kind

    def neighbours(self, concept: str) -> list[str]:
        """None: the benchmark names none, and looking alike in pixels says little about objects."""
        self.kind(concept)
        return []

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pictures of the style over the objects, or of the object over the styles: `size`
        at most, drawn without replacement.
        """
        self.kind(concept)
        mine = canvas_forget_set(self.pairs.split("train"), concept)
        return self.looked.draw(mine, size, [seed, 11], "forget set")

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        """Training pictures that neither show the concept (or any of several) nor name it in their
        caption: `size` at most.

        The caption of Artist_Sketch names Sketch, so where Sketch is forgotten Artist_Sketch is not
        retained either.
        """
        rest = self.pairs.split("train")
        for name in as_list(concept):
            self.kind(name)
            rest = canvas_retain_set(rest, name)
            named = [names_concept(caption, spoken(name)) for caption in rest.captions]
            rest = rest.where(~np.array(named, bool))
        return self.looked.draw(rest, size, [seed, 12, 0], "retain set")

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """`class_prompts` of the styles and objects that the folder holds: FA@1 is among up to 50
        styles or 20 objects; photographs are no style here.
        """
        for name in as_list(concept):
            self.kind(name)
        there = self.concepts()
        styles, objects = ([n for n in there if n in kind] for kind in (STYLES, OBJECTS))
        return class_prompts(concept, styles, objects, split)

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All pictures of the concept in one split, and of everything else one (search) or all
        (report) of each object in each style.

        per_style: pictures of each other object in each style, 0 for these. Search and report share
        no photograph. Raises UnknownConceptError, EmptySetError where the split holds nothing but
        the concept, SettingError for another split.
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

        pairs, prompts = self.looked.exam(pairs, mine, cut), self.prompts(concept, split)
        return Exam(pairs, concept, kind, DOMAINS[kind], prompts, self.neighbours(concept), split)

    def left_out(self) -> pd.DataFrame:
        """What was left out of the data and changed in them, in the sets that were drawn so far:
        columns what, why, pictures, which (`looked.noted`).
        """
        return noted(self.looked.listed())
