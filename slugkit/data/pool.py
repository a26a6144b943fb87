"""Any set of pairs as a source of forget, retain, search and report sets."""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from slugkit.base import AllLeftOutError, EmptySetError, SettingError, UnknownConceptError, nearest
from slugkit.data.looked import LEFT_OUT, first_of_each
from slugkit.data.names import name_of, normalised
from slugkit.data.pairs import Pairs
from slugkit.data.pictures import Pictures
from slugkit.data.reading import Reading, dealt, filled, fitting
from slugkit.data.source import Exam, Prompts, Source, as_list
from slugkit.data.tables import read_table

PER_CLASS, ALL_CLASSES, EDGE = 16, 2000, 64
"""For neighbours: training pictures of a class and of all classes, and their largest edge."""
TEMPLATES, TRIED = 12, 200
"""Caption templates in which classes are asked for, of so many of the commonest."""
SPELT = "in neither set, the concept in another spelling"
BEHIND = "the name behind what the model reads"
ADVICE = {
    SPELT: "Write the name there as the concept is written, or leave these pairs out.",
    BEHIND: "Shorten these captions, or begin them with the name.",
}
"""Why a set leaves pairs out, and what to do about it."""
Drawn = tuple[np.ndarray, dict[str, np.ndarray]]
"""(N,) bool: the training pairs that a set may hold; and those left out, by reason."""


class PairsSource(Source):
    """Pairs as a source: labelled or with captions only.

    Labelled pairs (a non-empty `concept`) make concepts (kind "class"), which exams ask for. Where
    none is labelled, any name that a training caption holds as whole words is one (kind "name"),
    and no exam can be set. A set's `table.attrs["left_out"]` holds (what, pairs, of, advice) each.
    """

    def __init__(self, pairs: Pairs, name: str, path: str | Path, reading: Reading | None = None):
        super().__init__(name, path)
        self.pairs, self.reading = pairs, reading
        self.told = [(LEFT_OUT, *lost) for lost in pairs.table.attrs.get("lost", [])]
        self._others: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def labelled(self) -> bool:
        """Whether any pair carries a concept."""
        return bool((self.pairs.table["concept"] != "").any())

    @cached_property
    def _train(self) -> Pairs:
        return self.pairs.split("train")

    def concepts(self) -> list[str]:
        return sorted({c for c in self.pairs.table["concept"] if c})

    def kind(self, concept: str) -> str:
        if not self.labelled:
            return self._kind_of_name(concept)
        classes = self.concepts()
        if concept not in classes:
            # a class whose name differs in blanks, case and the like alone, or the nearest ones
            close = [n for n in classes if normalised(n) == normalised(concept)]
            close = ", ".join(map(repr, close or nearest(concept, classes)))
            raise UnknownConceptError(
                f"The data {self.name!r} have no concept {concept!r}; expected a value of the"
                f" concept column, which has {len(classes)}. Nearest:"
                f" {close or 'none comes near'}."
            )
        return "class"

    def _kind_of_name(self, concept: str) -> str:
        name, table = name_of(concept), self.pairs.table
        captions = table["caption"][table["split"] == "train"]
        if any(map(name.is_in, captions)):
            return "name"
        near, also = [t for t in captions if name.is_near(t)], ""
        if near:
            also = f" {len(near)} hold it in another spelling, the first {near[0][:80]!r}."
        raise UnknownConceptError(
            f"None of the {len(captions)} training captions of {self.name!r} names {concept!r};"
            f" expected a name that at least one holds as whole words.{also} Check the spelling, or"
            " add data that name it (slugkit.data.laion.search_names)."
        )

    def neighbours(self, concept: str) -> list[str]:
        """Up to three classes with the nearest mean training picture; none among over 2,000."""
        self.kind(concept)
        if concept not in self._means:
            return []
        mine = self._means[concept]
        apart = {c: float(((mean - mine) ** 2).mean()) for c, mean in self._means.items()}
        return sorted(apart.keys() - {concept}, key=lambda c: (apart[c], c))[:3]

    @cached_property
    def _means(self) -> dict[str, np.ndarray]:
        """Class -> the mean of its first training pictures."""
        train, classes = self._train, self.concepts()
        most = min(PER_CLASS, ALL_CLASSES // max(len(classes), 1))
        if not most:
            return {}
        labels, images = train.table["concept"].to_numpy(), train.images
        cut = first_of_each(train.table[["concept"]], most, np.zeros(len(train), bool))
        some = self.looked.whole(train, np.flatnonzero(labels != ""), cut)
        if train.on_disk and images.size > EDGE:
            images = Pictures(images.places, EDGE, images.fit)
        rows = {c: some[labels[some] == c] for c in classes}
        return {
            c: images[found].astype(np.float32).mean(0) for c, found in rows.items() if len(found)
        }

    def _labels_and_captions(self) -> list[tuple[str, str]]:
        return list(zip(self._train.table["concept"], self._train.captions))

    def _other(self, concept: str) -> tuple[np.ndarray, np.ndarray]:
        """(N,) bool each: training pairs that carry or name the concept, or in another spelling."""
        if concept not in self._others:
            name, pairs = name_of(concept), self._labels_and_captions()
            named = [c == concept or name.is_in(t) for c, t in pairs]
            near = [
                not at and (name.is_near(t) or name.is_near(c)) for at, (c, t) in zip(named, pairs)
            ]
            self._others[concept] = np.array(named, bool), np.array(near, bool)
        return self._others[concept]

    def _unheard(self, names: list[str]) -> np.ndarray:
        """(N,) bool: training pairs that hold the name behind what the model reads only."""

        def behind(name: str, text: str) -> bool:
            if not name or self.reading is None or self.reading.fits(text):
                return False
            whole = name_of(name)
            return whole.is_in(text) and not whole.is_in(self.reading.part(text))

        return np.array(list(map(behind, names, self._train.captions)), bool)

    @cached_property
    def _classes_unheard(self) -> np.ndarray:
        return self._unheard(self._train.table["concept"].tolist())

    def _about(self, concept: str) -> Drawn:
        """Pairs that carry the concept or, unlabelled, name it within the context."""
        name, pairs = name_of(concept), self._labels_and_captions()
        mine = np.array([c == concept or (not c and name.is_in(t)) for c, t in pairs], bool)
        cut = mine & self._unheard([concept if m else "" for m in mine])
        return mine & ~cut, {BEHIND: cut}

    def _without(self, concepts: list[str]) -> Drawn:
        """Without other spellings of the concept, and classes named behind the context."""
        named, near = (np.any(found, axis=0) for found in zip(*map(self._other, concepts)))
        cut = self._classes_unheard & ~named & ~near
        return ~named & ~near & ~cut, {SPELT: near & ~named, BEHIND: cut}

    def _drawn(self, found: Drawn, size: int, seed: list[int], what: str) -> Pairs:
        """`size` of the training pairs at most; what was left out is counted."""
        these, out = found
        keys, noted_out = self._train.table["key"], []
        lost = {why: keys[rows] for why, rows in out.items()}
        if not these.any() and any(map(len, lost.values())):
            said = "; ".join(
                f"{len(some)} of {len(keys)} training pairs are left out: {why}. {ADVICE[why]}"
                for why, some in lost.items()
                if len(some)
            )
            raise AllLeftOutError(f"The {what} is empty; at least one pair was expected. {said}")
        drawn = self.looked.draw(self._train.where(these), size, seed, what)
        for why, some in lost.items():
            self.passed |= {(LEFT_OUT, f"{what}: {why}", key): None for key in some}
            first = f"First: {some.iloc[0]}. {ADVICE[why]}" if len(some) else ""
            noted_out.append([why, len(some), len(keys), first])
        drawn.table.attrs = {**drawn.table.attrs, "left_out": noted_out}
        return drawn

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        self.kind(concept)
        return self._drawn(self._about(concept), size, [seed, 11], "forget set")

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        return self._drawn(self._without(as_list(concept)), size, [seed, 12, 0], "retain set")

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """Half of the commonest caption templates of the training split, filled with each class.

        Plain words stand in where there are too few; those that the model does not read to their
        end go, unless all would.
        """
        classes = self.concepts() or as_list(concept)
        return {"classes": fitting(filled(dealt(self._templates, split), classes), self.reading)}

    @cached_property
    def _templates(self) -> list[str]:
        """The commonest caption templates in which every class is read to its end."""
        counted = Counter(name_of(c).template(t) for c, t in self._labels_and_captions() if c)
        del counted[None]
        if self.reading is None:
            return [t for t, _ in counted.most_common(TEMPLATES)]
        fits = self.reading.fits
        # the longest first: it settles most
        classes = sorted(self.concepts(), key=lambda c: -len(self.reading.ids(c)))
        common = (t for t, _ in counted.most_common(TRIED))
        fine = (t for t in common if all(fits(t.replace("{}", c)) for c in classes))
        return list(islice(fine, TEMPLATES))

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """All labelled, whole pictures of a split."""
        self.kind(concept)
        if not self.labelled:
            raise EmptySetError(
                f"The data {self.name!r} have captions only, so nothing can be examined; labelled"
                " pictures are needed. Add a concept column, or write a recipe with people and"
                " objects."
            )
        pairs = self.pairs.split(split)
        pairs = pairs.where(pairs.table["concept"] != "")
        if not (pairs.table["concept"] == concept).any():
            raise EmptySetError(
                f"The {split} split holds no picture of {concept!r}; expected at least one. Mark"
                f" some rows of {self.name!r} with split {split}."
            )
        return self._examined(pairs, concept, split, "classes")


class FolderSource(PairsSource):
    """A folder with captions.csv, whose paths lie inside the folder, as a source."""

    def __init__(
        self, folder: str | Path, size: int = 64, fit: str = "crop", reading: Reading | None = None
    ):
        path = Path(folder).expanduser()
        table = path / "captions.csv"
        if not table.is_file():
            raise SettingError(
                f"The data folder {path.name!r} has no captions.csv; expected one with the columns"
                " file and caption (concept and split are optional)."
            )
        super().__init__(read_table(table, size, fit, inside=True), path.name, path, reading)
