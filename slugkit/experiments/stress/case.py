"""A model under stress, and the stresses by name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from slugkit.base import EmptySetError
from slugkit.data import Exam, Pairs, Source
from slugkit.evaluation.clip import Scorer, askable, class_features
from slugkit.models import Clip
from slugkit.patch import Patch, PatchSet

PICTURES = 8
"""Pictures of the concept that somebody who wants it back has; no model was trained on them."""
POOL = 1000
"""Training pictures of everything else, of which an attack takes some."""
MEMBERS = 300
"""Pictures of the concept that the model was trained on, and as many that it was not."""


class Material:
    """What all models are asked about one concept, and the pictures that an attack may use.

    source: of the pictures. exam: the report exam about the concept, its own domain alone. seed: of
    everything that is drawn.
    """

    def __init__(self, source: Source, concept: str, seed: int = 0):
        exam = source.exam(concept, "report", 1)
        domain = exam.target_domain
        inside = exam.labels(domain) >= 0
        exam = replace(exam, pairs=exam.pairs.where(inside), base=None)
        self.exam = replace(exam, prompts={domain: exam.prompts[domain]})
        self.source, self.seed, self.concept, self.domain = source, seed, concept, domain

    @cached_property
    def few(self) -> Pairs:
        """Pictures of the concept that an attack may learn from: `PICTURES` of the non-members."""
        order = np.random.default_rng([self.seed, 31]).permutation(len(self.nonmembers))
        return self.nonmembers.take(order[:PICTURES])

    @cached_property
    def pool(self) -> Pairs:
        """Training pictures of everything else."""
        return self.source.retain_set(self.concept, POOL, self.seed)

    @cached_property
    def rest(self) -> Pairs:
        """Of the pool one picture of every other class of the domain that has some."""
        found = self.pool.where(self.pool.table["concept"].isin(self.exam.classes(self.domain)))
        if not len(found):
            raise EmptySetError(
                f"No training picture shows another class beside {self.concept!r}; one or more was"
                " expected, from which it is to be told apart. Add pictures of others."
            )
        return found.where(~found.table["concept"].duplicated())

    @cached_property
    def members(self) -> Pairs:
        """Pictures of the concept that the model was trained on."""
        return self.source.forget_set(self.concept, MEMBERS, self.seed)

    @cached_property
    def nonmembers(self) -> Pairs:
        """Pictures of the concept that no model was trained on."""
        return self.source.nonmembers(self.concept, MEMBERS)

    @cached_property
    def strangers(self) -> Pairs | None:
        """Pictures of what no model knows, if the data have some."""
        return self.source.strangers(self.concept, MEMBERS)


@dataclass
class Case:
    """A CLIP that was made to forget a concept, or was not, and what may be asked of it.

    Attributes:
        name: the method, "unedited" or "oracle".
        tower: of the edit; "" where there is none.
        clip: the model, a copy of its own; a stress changes nothing but a `copy` of it.
        unedited: the model before the edit.
        edit: what was applied.
        given: the concept, the exam and the pictures, the same for all.
    """

    name: str
    tower: str
    clip: Clip
    unedited: Clip
    edit: Patch | PatchSet | None
    given: Material

    @property
    def concept(self) -> str:
        """What should be gone."""
        return self.given.concept

    @property
    def exam(self) -> Exam:
        """The report exam, its own domain alone."""
        return self.given.exam

    @property
    def domain(self) -> str:
        """The classes among which the concept is asked for."""
        return self.given.domain

    def copy(self) -> Clip:
        """A copy of the model that may be changed."""
        return replace(self.clip, model=copy.deepcopy(self.clip.model))

    @cached_property
    def scorer(self) -> Scorer:
        """The exam, and the features of its pictures by the model as it is."""
        return Scorer(self.clip, self.exam)

    @cached_property
    def strangers(self) -> torch.Tensor | None:
        """(N, d) features of pictures of strangers, if the data have some."""
        shown = self.given.strangers
        return None if shown is None else self.clip.image_features(shown.images)


def recognised(ranks: np.ndarray) -> dict[str, float]:
    """How often a concept is still recognised, in percent: FA@1 and FA@5, the mean over wordings,
    and FA@5 in the wording in which it is recognised most; n, its pictures.

    ranks: (W, n) how many classes score higher, in each wording, on each picture.
    """
    each = {k: 100 * (ranks < k).mean(1) for k in (1, 5)}
    found = {f"FA@{k}": float(of.mean()) for k, of in each.items()}
    return found | {"FA@5, worst wording": float(each[5].max()), "n": ranks.shape[1]}


def measured(clip: Clip, exam: Exam) -> dict[str, float]:
    """The same of a model as it is, and how often the other classes of the domain are told right,
    in percent.
    """
    scorer = Scorer(clip, exam)
    words = scorer.classes()
    rows = np.flatnonzero(~exam.shows(exam.concept))
    right = scorer.ranks(exam.target_domain, rows, words) < 1
    mine = recognised(scorer.of(exam.concept, words))
    return mine | {"others right": 100 * float(right.mean())}


def said_as(case: Case, texts: dict[str, list[str]]) -> np.ndarray:
    """Ranks of the concept where other texts stand for it: (W, n).

    texts: wording of the exam -> texts whose mean feature stands for the concept; the other classes
    are asked for in the same wording.
    """
    exam = askable(case.clip, case.exam)
    asked = exam.prompts[case.domain]
    words = {w: {**asked[w], case.concept: said} for w, said in texts.items()}
    mine = replace(exam, prompts={case.domain: words})
    return case.scorer.of(case.concept, class_features(case.clip, mine))


Stress = Callable[[Case], Iterator[dict]]
"""Yields a row a setting: setting, steps where there are several, n, and its metrics in percent,
each under its name.
"""
