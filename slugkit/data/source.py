"""What the workbook asks of any source of pictures: which concepts there are, and the sets for one
of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError
from slugkit.data.pairs import Pairs

GROUP_NAMES = {"figures": "people"}
"""A domain as the tables of results call it."""
Prompts = dict[str, dict[str, dict[str, list[str]]]]
"""Domain -> wording -> class -> the texts whose mean feature stands for the class, asked for in
that wording.
"""


def groups_of(table: pd.DataFrame, domain: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """The rows of a domain by the groups of the tables of results: characters apart from people,
    where the table has a `kind`.
    """
    kinds = (
        table["kind"].to_numpy()[rows] if domain == "figures" and "kind" in table else np.array([])
    )
    name = GROUP_NAMES.get(domain, domain)
    if not (kinds == "character").any():
        return {name: rows}
    return {name: rows[kinds != "character"], "characters": rows[kinds == "character"]}


@dataclass
class Exam:
    """Labelled pictures on which a model is examined about one concept, and the questions asked.

    split: search or report; no wording of one is a wording of the other. prompts: the texts, by
    domain, wording and class; every wording of a domain asks for the same classes. target_domain:
    the domain in which the concept is a class. neighbours: the concepts most like it.
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
        column = "style" if domain == "styles" else "concept"
        index = {c: i for i, c in enumerate(self.classes(domain))}
        inside = (
            np.ones(len(self.pairs), bool)
            if domain == "styles"
            else (self.pairs.table["domain"] == domain).to_numpy()
        )
        names = self.pairs.table[column]
        return np.where(inside, [index.get(n, -1) for n in names], -1)

    def groups(self) -> dict[str, tuple[str, np.ndarray]]:
        """Group -> (domain in which it is classified, rows): target, neighbours, then what must
        stay, by domain, characters apart from people.

        Where a style is forgotten, the rest is measured in the other styles.
        """
        table, out = self.pairs.table, {}
        column = "style" if self.target_domain == "styles" else "concept"
        mine = (table[column] == self.concept).to_numpy()
        near = table[column].isin(self.neighbours).to_numpy() & ~mine
        out["target"] = (self.target_domain, np.flatnonzero(mine))
        out["neighbours"] = (self.target_domain, np.flatnonzero(near))
        for domain in self.prompts:
            inside = np.flatnonzero(~mine & (self.labels(domain) >= 0))
            found = groups_of(table, domain, inside)
            out |= {name: (domain, rows) for name, rows in found.items()}
        return {g: (d, rows) for g, (d, rows) in out.items() if len(rows)}


class Source(Protocol):
    """A source of pictures: the studio (`StudioSource`), any set of labelled or captioned pairs
    (`PairsSource`), or a recipe that joins several.

    name: for people. path: the file or folder whose change makes results stale.
    """

    name: str
    path: Path

    def concepts(self) -> list[str]:
        """Every concept that can be forgotten."""

    def kind(self, concept: str) -> str:
        """What sort of concept it is. Raises UnknownConceptError naming the nearest."""

    def neighbours(self, concept: str) -> list[str]:
        """The concepts most like it, nearest first."""

    def forget_set(self, concept: str, size: int, seed: int) -> Pairs:
        """Training pairs about the concept."""

    def retain_set(self, concept: str | list[str], size: int, seed: int) -> Pairs:
        """Training pairs that do not show the concept, or any of several."""

    def prompts(self, concept: str | list[str], split: str) -> Prompts:
        """The texts that stand for the classes, in the wordings of one split: search or report.

        concept: one, or several that are forgotten together.
        """

    def exam(self, concept: str, split: str, per_style: int = 0) -> Exam:
        """The search or the report exam."""

    def left_out(self) -> pd.DataFrame:
        """What was left out of the data and changed in them, in the sets that were drawn so far:
        columns what, why, pictures, which (`looked.noted`).
        """


def shuffled(count: int, seed, what: str) -> np.ndarray:
    """`count` rows in the order in which they are drawn.

    Raises EmptySetError when there is nothing to draw from.
    """
    if count == 0:
        raise EmptySetError(
            f"The {what} is empty: no training pair qualifies. Expected at least one; check the"
            " concept's spelling in the captions and the split column."
        )
    return np.random.Generator(np.random.PCG64(seed)).permutation(count)


def choose(count: int, size: int, seed, what: str) -> np.ndarray:
    """`size` of `count` rows, drawn without replacement and sorted.

    Raises EmptySetError when there is nothing to draw from.
    """
    return np.sort(shuffled(count, seed, what)[:size])


def as_list(concept: str | list[str]) -> list[str]:
    """One concept, or several, as a list."""
    return [concept] if isinstance(concept, str) else list(concept)
