"""Any set of pairs as a source of forget, retain, search and report sets."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, UnknownConceptError, nearest

from .looked import LEFT_OUT, Looked, noted
from .pairs import Pairs
from .pictures import Pictures
from .source import Exam, as_list, names_concept

PER_CLASS, ALL_CLASSES, EDGE = 16, 2000, 64
"""For neighbours: training pictures looked at of a class, of all classes together, and the largest edge in pixels at which they are read."""


class PairsSource:
    """Pairs as a source: pictures in memory or on disk, labelled or with captions only.

    Labelled pairs (a non-empty `concept`) make classes: these are the concepts, and exams are set on them. Where no pair is labelled, any name that a
    training caption holds as whole words is a concept, and no exam can be set. name: for people. path: the file or folder whose change makes results
    stale. unreadable: pictures that were left out at opening, each with the reason. incomplete: what else was left out. looked: what was found in the pictures of the sets drawn so far.
    """

    def __init__(self, pairs: Pairs, name: str, path: str | Path):
        self.pairs, self.name, self.path = pairs, name, Path(path)
        self.unreadable = pairs.table.attrs.get("unreadable", {})
        self.incomplete = pairs.table.attrs.get("incomplete", [])
        self.looked = Looked()
        self._means: dict[str, np.ndarray] | None = None

    @property
    def labelled(self) -> bool:
        """Whether any pair carries a concept."""
        return bool((self.pairs.table["concept"] != "").any())

    def concepts(self) -> list[str]:
        """The classes, in alphabetical order; empty for captions only, where every name in them is a concept."""
        return sorted({c for c in self.pairs.table["concept"] if c})

    def kind(self, concept: str) -> str:
        """"class", or "name" where there are captions only. Raises UnknownConceptError: with the nearest classes, or with the number of captions searched."""
        if not self.labelled:
            table = self.pairs.table
            captions = table["caption"][table["split"] == "train"]
            if any(names_concept(t, concept) for t in captions):
                return "name"
            raise UnknownConceptError(f"None of the {len(captions)} training captions of {self.name!r} names {concept!r}; expected a name that at least one "
                                      "holds as whole words. Check the spelling, or add data that name it (slugkit.data.laion.search_names).")
        if concept not in self.concepts():
            close = ", ".join(repr(n) for n in nearest(concept, self.concepts()))
            raise UnknownConceptError(f"The data {self.name!r} have no concept {concept!r}; expected a value of the concept column, which has "
                                      f"{len(self.concepts())}. Nearest: {close or 'none comes near'}.")
        return "class"

    def neighbours(self, concept: str) -> list[str]:
        """Classes whose mean training picture is nearest in pixels: three at most, nearest first; none where there are captions only.

        Looks at 16 training pictures a class and about 2,000 in all, at 64 pixels or less; with more than 2,000 classes it finds none.
        """
        self.kind(concept)
        if self._means is None:
            self._means = self._mean_pictures()
        if concept not in self._means:
            return []
        mine = self._means[concept]
        return sorted((c for c in self._means if c != concept), key=lambda c: float(((self._means[c] - mine) ** 2).mean()))[:3]

    def _mean_pictures(self) -> dict[str, np.ndarray]:
        train, classes = self.pairs.split("train"), self.concepts()
        each, labels = min(PER_CLASS, ALL_CLASSES // max(len(classes), 1)), train.table["concept"]
        some = self.looked.whole(train, np.flatnonzero(labels != ""), lambda rows: rows[labels[rows].groupby(labels[rows]).cumcount() < each])
        rows = {c: some[(labels[some] == c).to_numpy()] for c in classes}
        images = train.images
        if isinstance(images, Pictures) and images.size > EDGE:
            images = Pictures(images.places, EDGE, images.fit)
        return {c: images[found].astype(np.float32).mean(0) for c, found in rows.items() if len(found)}

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pairs that carry the concept or, where they carry none, name it in their caption: `size` at most, drawn without replacement."""
        self.kind(concept)
        train = self.pairs.split("train")
        mine = train.where([c == concept or (not c and names_concept(t, concept)) for c, t in zip(train.table["concept"], train.captions)])
        return self.looked.draw(mine, size, [seed, 11], "forget set")

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0, draw: int = 0) -> Pairs:
        """Training pairs that neither carry nor name the concept (or any of several): `size` at most; `draw` numbers independent draws."""
        train, without = self.pairs.split("train"), as_list(concept)
        rest = train.where([c not in without and not any(names_concept(t, name) for name in without) for c, t in zip(train.table["concept"], train.captions)])
        return self.looked.draw(rest, size, [seed, 12, draw], "retain set")

    def prompts(self, concept: str) -> dict[str, dict[str, list[str]]]:
        """The three commonest caption templates of the training split, filled with each class; with captions only, plain prompts of the concept."""
        train = self.pairs.split("train").table
        templates = Counter(re.sub(re.escape(c), "{}", t, count=1, flags=re.IGNORECASE)
                            for c, t in zip(train["concept"], train["caption"]) if c and names_concept(t, c))
        common = [t for t, _ in templates.most_common(3)] or ["{}", "a photo of {}"]
        return {"classes": {c: [t.replace("{}", c) for t in common] for c in self.concepts() or [concept]}}

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All labelled, whole pictures of a split (search or report). Raises EmptySetError where there are captions only, or no picture of the concept."""
        self.kind(concept)
        if not self.labelled:
            raise EmptySetError(f"The data {self.name!r} have captions only, so nothing can be examined; labelled pictures are needed. Add a concept column, "
                                "or write a recipe that takes people and objects to examine from labelled data.")
        pairs = self.pairs.split(split)
        pairs = pairs.where(pairs.table["concept"] != "")
        mine = (pairs.table["concept"] == concept).to_numpy()
        if not mine.any():
            raise EmptySetError(f"The {split} split holds no picture of {concept!r}; expected at least one. Mark some rows of {self.name!r} with split {split}.")
        pairs = self.looked.exam(pairs, mine)
        return Exam(pairs, concept, "class", "classes", self.prompts(concept), self.neighbours(concept), split)

    def left_out(self) -> pd.DataFrame:
        """What was left out of the data and changed in them, in the sets that were drawn so far: columns what, why, pictures, which (`looked.noted`)."""
        incomplete = [(LEFT_OUT, why, name) for name, _, why in (entry.rpartition(": ") for entry in self.incomplete)]
        return noted([(LEFT_OUT, "cannot be read", f"{name} ({why})") for name, why in self.unreadable.items()] + incomplete + self.looked.listed())
