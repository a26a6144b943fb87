"""Any set of pairs as a source of forget, retain, search and report sets."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import AllLeftOutError, EmptySetError, UnknownConceptError, nearest
from slugkit.data.looked import LEFT_OUT, Looked, noted
from slugkit.data.names import name_of, normalised
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import Pictures
from slugkit.data.reading import Reading, fitting
from slugkit.data.source import Exam, Prompts, as_list
from slugkit.data.wordings import dealt

PER_CLASS, ALL_CLASSES, EDGE = 16, 2000, 64
"""For neighbours: training pictures looked at of a class, of all classes together, and the largest
edge in pixels at which they are read.
"""
TEMPLATES, TRIED = 12, 200
"""Caption templates in which classes are asked for, and the commonest that are looked at for them.
"""

SPELT = "in neither set, the concept in another spelling"
BEHIND = "the name behind what the model reads"
ADVICE = {
    SPELT: "Write the name there as the concept is written, or leave these pairs out.",
    BEHIND: "Shorten these captions, or begin them with the name.",
}
"""Why a set leaves pairs out, and what to do about it."""


class PairsSource:
    """Pairs as a source: pictures in memory or on disk, labelled or with captions only.

    Labelled pairs (a non-empty `concept`) make classes: these are the concepts, and exams are set
    on them. Where no pair is labelled, any name that a training caption holds as whole words is a
    concept, and no exam can be set. name: for people. path: the file or folder whose change makes
    results stale. reading: how the model reads texts, so that nothing rests on what lies behind its
    context. unreadable: pictures that were left out at opening, each with the reason. incomplete:
    what else was left out then. looked: what was found in the pictures of the sets drawn so far.
    What a set left out stands in its `table.attrs["left_out"]`: (what, pairs, of, advice) each.
    """

    def __init__(self, pairs: Pairs, name: str, path: str | Path, reading: Reading | None = None):
        self.pairs, self.name, self.path, self.reading = pairs, name, Path(path), reading
        self.unreadable = pairs.table.attrs.get("unreadable", {})
        self.incomplete = pairs.table.attrs.get("incomplete", [])
        self.looked, self._passed_over = Looked(), {}
        self._means: dict[str, np.ndarray] | None = None
        self._others: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def labelled(self) -> bool:
        """Whether any pair carries a concept."""
        return bool((self.pairs.table["concept"] != "").any())

    def concepts(self) -> list[str]:
        """The classes, in alphabetical order; empty for captions only, where every name in them is
        a concept.
        """
        return sorted({c for c in self.pairs.table["concept"] if c})

    def kind(self, concept: str) -> str:
        """ "class", or "name" where there are captions only.

        Raises UnknownConceptError: with the nearest classes, or with the number of captions
        searched.
        """
        if not self.labelled:
            table = self.pairs.table
            captions, name = table["caption"][table["split"] == "train"], name_of(concept)
            if any(map(name.is_in, captions)):
                return "name"
            near = [t for t in captions if name.is_near(t)]
            also = ""
            if near:
                also = f" {len(near)} hold it in another spelling, the first {near[0][:80]!r}."
            raise UnknownConceptError(
                f"None of the {len(captions)} training captions of {self.name!r} names {concept!r};"
                f" expected a name that at least one holds as whole words.{also} Check the"
                " spelling, or add data that name it (slugkit.data.laion.search_names)."
            )
        if concept not in self.concepts():
            close = ", ".join(repr(n) for n in self._close_to(concept))
            raise UnknownConceptError(
                f"The data {self.name!r} have no concept {concept!r}; expected a value of the"
                f" concept column, which has {len(self.concepts())}. Nearest:"
                f" {close or 'none comes near'}."
            )
        return "class"

    def _close_to(self, concept: str) -> list[str]:
        """The class whose name differs in blanks, case and the like alone, or the nearest ones."""
        alike = [n for n in self.concepts() if normalised(n) == normalised(concept)]
        return alike or nearest(concept, self.concepts())

    def neighbours(self, concept: str) -> list[str]:
        """Classes whose mean training picture is nearest in pixels: three at most, nearest first;
        none where there are captions only.

        Looks at 16 training pictures a class and about 2,000 in all, at 64 pixels or less; with
        more than 2,000 classes it finds none.
        """
        self.kind(concept)
        if self._means is None:
            self._means = self._mean_pictures()
        if concept not in self._means:
            return []
        mine = self._means[concept]
        apart = {c: float(((mean - mine) ** 2).mean()) for c, mean in self._means.items()}
        return sorted(apart.keys() - {concept}, key=lambda c: (apart[c], c))[:3]

    def _mean_pictures(self) -> dict[str, np.ndarray]:
        train, classes = self.pairs.split("train"), self.concepts()
        each, labels = min(PER_CLASS, ALL_CLASSES // max(len(classes), 1)), train.table["concept"]

        def first(rows: np.ndarray) -> np.ndarray:
            return rows[labels[rows].groupby(labels[rows]).cumcount() < each]

        some = self.looked.whole(train, np.flatnonzero(labels != ""), first)
        rows = {c: some[(labels[some] == c).to_numpy()] for c in classes}
        images = train.images
        if isinstance(images, Pictures) and images.size > EDGE:
            images = Pictures(images.places, EDGE, images.fit)
        return {
            c: images[found].astype(np.float32).mean(0) for c, found in rows.items() if len(found)
        }

    @cached_property
    def _train(self) -> Pairs:
        return self.pairs.split("train")

    def _mine(self, concept: str) -> np.ndarray:
        """(N,) bool: the training pairs about the concept, which carry it or, where they carry
        none, name it.
        """
        name, train = name_of(concept), self._train.table
        pairs = zip(train["concept"], train["caption"])
        return np.array([c == concept or (not c and name.is_in(t)) for c, t in pairs], bool)

    def _other(self, concept: str) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool each: the training pairs that carry or name the concept, and those that do so
        in another spelling only. Looked for once: every draw of a concept asks again.
        """
        if concept in self._others:
            return self._others[concept]
        name, train = name_of(concept), self._train.table
        pairs = list(zip(train["concept"], train["caption"]))
        named = [c == concept or name.is_in(t) for c, t in pairs]
        near = [not at and (name.is_near(t) or name.is_near(c)) for at, (c, t) in zip(named, pairs)]
        self._others[concept] = np.array(named, bool), np.array(near, bool)
        return self._others[concept]

    def _unheard(self, names: list[str]) -> np.ndarray:
        """(N,) bool: training pairs whose caption holds the name at their place, but only behind
        what the model reads. names: N, "" where none is asked for.
        """

        def behind(name: str, text: str) -> bool:
            if not name or self.reading is None or self.reading.fits(text):
                return False
            whole = name_of(name)
            return whole.is_in(text) and not whole.is_in(self.reading.part(text))

        return np.array(list(map(behind, names, self._train.captions)), bool)

    @cached_property
    def _classes_unheard(self) -> np.ndarray:
        return self._unheard(self._train.table["concept"].tolist())

    def _drawn(
        self, these: np.ndarray, size: int, seed: list[int], what: str, out: dict[str, np.ndarray]
    ) -> Pairs:
        """`size` of the training pairs at most; what was left `out`, by reason, is counted and its
        first named.
        """
        keys, lost = self._train.table["key"], {why: int(rows.sum()) for why, rows in out.items()}
        if not these.any() and any(lost.values()):
            said = "; ".join(
                f"{count} of {len(keys)} training pairs are left out: {why}. {ADVICE[why]}"
                for why, count in lost.items()
                if count
            )
            raise AllLeftOutError(f"The {what} is empty; at least one pair was expected. {said}")
        found = self.looked.draw(self._train.where(these), size, seed, what)
        noted_out = []
        for why, rows in out.items():
            self._passed_over |= {(LEFT_OUT, f"{what}: {why}", key): None for key in keys[rows]}
            first = f"First: {keys[rows].iloc[0]}. {ADVICE[why]}" if lost[why] else ""
            noted_out.append([why, lost[why], len(keys), first])
        found.table.attrs = {**found.table.attrs, "left_out": noted_out}
        return found

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pairs that carry the concept or, where they carry none, name it in their
        caption: `size` at most, drawn without replacement.

        Left out and counted: pairs whose caption holds the name behind the model's context only.
        Raises EmptySetError.
        """
        self.kind(concept)
        mine = self._mine(concept)
        cut = mine & self._unheard([concept if m else "" for m in mine])
        return self._drawn(mine & ~cut, size, [seed, 11], "forget set", {BEHIND: cut})

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        """Training pairs that neither carry nor name the concept (or any of several): `size` at
        most.

        Left out and counted: pairs that hold it in another spelling (see `slugkit.data.names`), and
        those whose own class is named behind the model's context only.
        """
        named, near = (np.any(found, axis=0) for found in zip(*map(self._other, as_list(concept))))
        cut = self._classes_unheard & ~named & ~near
        out = {SPELT: near & ~named, BEHIND: cut}
        return self._drawn(~named & ~near & ~cut, size, [seed, 12, 0], "retain set", out)

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """The commonest caption templates of the training split, filled with each class; half of
        them are the search's, half the report's, with plain words where there are too few.

        Where the source knows how the model reads, only those in which every class is read to its
        end, if there are any. Raises SettingError where two classes would get the same tokens.
        """
        wordings = dealt(self._templates, split)
        classes = self.concepts() or as_list(concept)
        said = {w: {c: [w.replace("{}", c)] for c in classes} for w in wordings}
        return {"classes": said if self.reading is None else fitting(said, self.reading)}

    @cached_property
    def _templates(self) -> list[str]:
        """The commonest caption templates in which every class is read to its end."""
        train, classes = self._train.table, self.concepts()
        pairs = zip(train["concept"], train["caption"])
        counted = Counter(name_of(c).template(t) for c, t in pairs if c)
        del counted[None]
        common = [t for t, _ in counted.most_common(TEMPLATES if self.reading is None else TRIED)]
        if self.reading is None:
            return common
        longest = max(classes, key=lambda c: len(self.reading.ids(c)), default="")
        fine = (
            t
            for t in common
            if self.reading.fits(t.replace("{}", longest))
            and all(self.reading.fits(t.replace("{}", c)) for c in classes)
        )
        return list(islice(fine, TEMPLATES))

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All labelled, whole pictures of a split (search or report).

        Raises EmptySetError where there are captions only, or no picture of the concept.
        """
        self.kind(concept)
        if not self.labelled:
            raise EmptySetError(
                f"The data {self.name!r} have captions only, so nothing can be examined; labelled"
                " pictures are needed. Add a concept column, or write a recipe that takes people"
                " and objects to examine from labelled data."
            )
        pairs = self.pairs.split(split)
        pairs = pairs.where(pairs.table["concept"] != "")
        mine = (pairs.table["concept"] == concept).to_numpy()
        if not mine.any():
            raise EmptySetError(
                f"The {split} split holds no picture of {concept!r}; expected at least one. Mark"
                f" some rows of {self.name!r} with split {split}."
            )
        pairs, prompts = self.looked.exam(pairs, mine), self.prompts(concept, split)
        return Exam(pairs, concept, "class", "classes", prompts, self.neighbours(concept), split)

    def left_out(self) -> pd.DataFrame:
        """What was left out of the data and changed in them, in the sets that were drawn so far:
        columns what, why, pictures, which (`looked.noted`).
        """
        broken = [f"{name} ({why})" for name, why in self.unreadable.items()]
        found = [(LEFT_OUT, "cannot be read", name) for name in broken]
        for name, _, why in (entry.rpartition(": ") for entry in self.incomplete):
            found.append((LEFT_OUT, why, name))
        return noted([*found, *self.looked.listed(), *self._passed_over])
