"""What the workbook asks of any source of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.data.looked import Looked, first_of_each, noted
from slugkit.data.pairs import Pairs

GROUP_NAMES = {"figures": "people"}
"""A domain as the tables of results call it."""
Prompts = dict[str, dict[str, dict[str, list[str]]]]
"""Domain -> wording -> class -> the texts whose mean feature stands for the class."""


def groups_of(table: pd.DataFrame, domain: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a domain by the groups of the tables of results: characters apart from people."""
    name = GROUP_NAMES.get(domain, domain)
    if domain != "figures" or "kind" not in table:
        return {name: rows}
    apart = table["kind"].to_numpy()[rows] == "character"
    return {name: rows[~apart], "characters": rows[apart]} if apart.any() else {name: rows}


@dataclass
class Exam:
    """Labelled pictures on which a model is examined about one concept, and the questions asked.

    split: search or report; no wording of one is a wording of the other. target_domain: that in
    which the concept is a class. neighbours: the concepts most like it.
    """

    pairs: Pairs
    concept: str
    kind: str
    target_domain: str
    prompts: Prompts
    neighbours: list[str]
    split: str

    def classes(self, domain: str) -> list[str]:
        """The classes of a domain, in the order in which they are numbered."""
        return list(next(iter(self.prompts[domain].values())))

    def labels(self, domain: str) -> np.ndarray:
        """Class number of every picture in a domain; -1 where the picture has none. (N,) int64."""
        table, index = self.pairs.table, {c: i for i, c in enumerate(self.classes(domain))}
        if domain == "styles":
            return np.array([index.get(name, -1) for name in table["style"]], np.int64)
        numbers = [index.get(name, -1) for name in table["concept"]]
        return np.where(table["domain"] == domain, numbers, -1)

    def groups(self) -> dict[str, tuple[str, np.ndarray]]:
        """Group (target, neighbours, the rest by domain) -> (domain of the question, rows)."""
        table, own = self.pairs.table, self.target_domain
        names = table["style" if own == "styles" else "concept"]
        mine = (names == self.concept).to_numpy()
        near = names.isin(self.neighbours).to_numpy() & ~mine
        out = {"target": (own, np.flatnonzero(mine)), "neighbours": (own, np.flatnonzero(near))}
        for domain in self.prompts:
            inside = np.flatnonzero(~mine & (self.labels(domain) >= 0))
            for name, rows in groups_of(table, domain, inside).items():
                out[name] = domain, rows
        return {g: (d, rows) for g, (d, rows) in out.items() if len(rows)}


class Source:
    """A source of pictures; every kind of data is one.

    path: the file or folder whose change makes results stale. looked: what was found in the
    pictures of the sets drawn so far. told, passed: (what, why, name) of what else was left out, at
    opening and by the sets.
    """

    def __init__(self, name: str, path: str | Path):
        self.name, self.path, self.looked = name, Path(path), Looked()
        self.told: list[tuple[str, str, str]] = []
        self.passed: dict[tuple[str, str, str], None] = {}

    def concepts(self) -> list[str]:
        """Every concept that can be forgotten."""

    def kind(self, concept: str) -> str:
        """What sort of concept it is. Raises UnknownConceptError naming the nearest."""

    def neighbours(self, concept: str) -> list[str]:
        """The concepts most like it, nearest first."""
        self.kind(concept)
        return []

    def hard_case(self, concept: str) -> list[str]:
        """Two concepts that are hard to tell apart, the first of which is to be forgotten: by
        default the given one and the concept most like it; fewer where there is none.
        """
        return [concept, *self.neighbours(concept)[:1]]

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pairs about the concept: `size` at most, drawn without replacement."""

    def retain_set(self, concept: str | list[str], size: int, seed: int = 0) -> Pairs:
        """Training pairs that neither show nor name the concept, or any of several."""

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """The texts that stand for the classes, in the wordings of one split."""

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """The search or the report exam, which share no picture. Raises EmptySetError.

        per_style: pictures of everything else, where a source has many; 0 for its own number.
        """

    def left_out(self) -> pd.DataFrame:
        """What was left out of the data and changed in them so far (`looked.noted`)."""
        return noted([*self.told, *self.looked.listed(), *self.passed])

    def _examined(
        self,
        pairs: Pairs,
        concept: str,
        split: str,
        domain: str,
        groups: tuple[str, ...] = ("concept",),
        most: int = 0,
    ) -> Exam:
        """The exam on whole pictures: all of the concept, and the first `most` (0: all) of each
        group of the others.
        """
        mine = (pairs.table["style" if domain == "styles" else "concept"] == concept).to_numpy()
        cut = first_of_each(pairs.table[list(groups)], most, mine)
        pairs, prompts = self.looked.exam(pairs, mine, cut), self.prompts(concept, split)
        kind, near = self.kind(concept), self.neighbours(concept)
        return Exam(pairs, concept, kind, domain, prompts, near, split)


def as_list(concept: str | list[str]) -> list[str]:
    """One concept, or several, as a list."""
    return [concept] if isinstance(concept, str) else list(concept)
