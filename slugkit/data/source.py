"""What the workbook asks of any source of pictures."""

from __future__ import annotations

from collections.abc import Iterable
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


def _by_kind(table: pd.DataFrame, domain: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a domain by the groups of the tables of results: characters apart from people."""
    name = GROUP_NAMES.get(domain, domain)
    if domain != "figures" or "kind" not in table:
        return {name: rows}
    apart = table["kind"].to_numpy()[rows] == "character"
    return {name: rows[~apart], "characters": rows[apart]} if apart.any() else {name: rows}


@dataclass(frozen=True)
class Target:
    """A concept of an exam: its kind, the domain in which it is a class, the concepts like it."""

    kind: str
    domain: str
    neighbours: list[str]


@dataclass
class Exam:
    """Labelled pictures on which a model is examined about one concept or several, and the
    questions asked.

    targets: the concepts, in order. prompts: in wordings that name none of them, of which search
    and report (split) share none. base: (N,) bool, false for the additional pictures of one of
    several concepts, which count for it alone; None: no such.
    """

    pairs: Pairs
    targets: dict[str, Target]
    prompts: Prompts
    split: str
    base: np.ndarray | None = None

    def __post_init__(self):
        self.concepts = list(self.targets)
        self.concept, first = next(iter(self.targets.items()))
        self.kind, self.target_domain, self.neighbours = first.kind, first.domain, first.neighbours

    def domain(self, concept: str) -> str:
        """Domain in which the concept is a class."""
        return self.targets[concept].domain

    def names(self, domain: str) -> pd.Series:
        """What each picture shows that may be a class of the domain."""
        return self.pairs.table["style" if domain == "styles" else "concept"]

    def shows(self, concept: str) -> np.ndarray:
        """(N,) bool: the pictures that show the concept."""
        return (self.names(self.domain(concept)) == concept).to_numpy()

    def classes(self, domain: str) -> list[str]:
        """The classes of a domain, in the order in which they are numbered."""
        return list(next(iter(self.prompts[domain].values())))

    def labels(self, domain: str) -> np.ndarray:
        """Class number of every picture in a domain; -1 where the picture has none. (N,) int64."""
        index = {c: i for i, c in enumerate(self.classes(domain))}
        numbers = np.array([index.get(name, -1) for name in self.names(domain)], np.int64)
        inside = (domain == "styles") | (self.pairs.table["domain"] == domain)
        return np.where(inside, numbers, -1)

    def groups(self) -> dict[str, tuple[str, np.ndarray]]:
        """Group (target, neighbours, the rest by domain) -> (domain of the question, rows)."""
        target = self.target_domain, np.flatnonzero(self.shows(self.concept))
        return {"target": target, **self.rest([self.concept])}

    def rest(self, forgotten: Iterable[str]) -> dict[str, tuple[str, np.ndarray]]:
        """What must stay when these are forgotten, as of `groups`. neighbours: of any of them, and
        not forgotten; then by domain, characters apart from people.
        """
        forgotten, out = list(forgotten), {}
        kept = np.ones(len(self.pairs), bool) if self.base is None else self.base
        kept = kept & ~np.any([np.zeros(len(kept), bool), *map(self.shows, forgotten)], axis=0)
        near = {n for c in forgotten for n in self.targets[c].neighbours} - set(forgotten)
        for domain in dict.fromkeys(map(self.domain, forgotten)):
            mine = self.names(domain).isin(near & set(self.classes(domain))).to_numpy()
            group = "neighbours" if "neighbours" not in out else f"neighbours, {domain}"
            out[group] = (domain, np.flatnonzero(mine & kept))
        for domain in self.prompts:
            rows = np.flatnonzero(kept & (self.labels(domain) >= 0))
            found = _by_kind(self.pairs.table, domain, rows)
            out |= {group: (domain, rows) for group, rows in found.items()}
        return {group: (domain, rows) for group, (domain, rows) in out.items() if len(rows)}


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

    def best_known(self, kind: str) -> list[str]:
        """The concepts of a kind that come first where nobody names one."""
        return []

    def reported(self) -> list[str]:
        """The concepts of every table, in its order: by default all."""
        return self.concepts()

    def examined_apart(self, concept: str) -> bool:
        """Whether its exams are set on pictures that are not among the pairs to learn from."""
        return False

    def hard_case(self, concept: str) -> list[str]:
        """Two concepts that are hard to tell apart, the first of which is to be forgotten: by
        default the given one and the concept most like it; fewer where there is none.
        """
        return [concept, *self.neighbours(concept)[:1]]

    def forget_set(self, concept: str, size: int, seed: int = 0) -> Pairs:
        """Training pairs about the concept: `size` at most, drawn without replacement."""

    def nonmembers(self, concept: str, size: int) -> Pairs:
        """Pictures of the concept that no model was trained on: by default the search's."""
        exam = self.exam(concept, "search")
        return exam.pairs.take(np.flatnonzero(exam.shows(concept))[:size])

    def strangers(self, concept: str, size: int) -> Pairs | None:
        """Pictures of what is like the concept and that no model knows, if the data have some."""
        return None

    def descriptions(self, concept: str) -> list[str]:
        """How the concept looks, without its name, a phrase each that may follow what is shown
        ("with red long hair"); none where nobody knows.
        """
        return []

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
        target = Target(self.kind(concept), domain, self.neighbours(concept))
        return Exam(pairs, {concept: target}, prompts, split)


def as_list(concept: str | list[str]) -> list[str]:
    """One concept, or several, as a list."""
    return [concept] if isinstance(concept, str) else list(concept)
