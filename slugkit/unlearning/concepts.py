"""Which concepts are forgotten together where a person names one, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import Any

from slugkit.base import EmptySetError, SearchFailedError, SettingError, UnknownConceptError
from slugkit.data import Source, StudioSource
from slugkit.data.source import Exam
from slugkit.evaluation.clip import answers
from slugkit.evaluation.clip_judge import judge_of
from slugkit.evaluation.statistics import above_chance
from slugkit.evaluation.vlm import choose_words
from slugkit.models import Clip
from slugkit.models.diffusion import GUIDANCE, STEPS
from slugkit.models.vlm import Vlm
from slugkit.tasks import domain_of
from slugkit.unlearning.pipeline import UA, require_drawn, search_set

TRIED = 100
"""Names that are looked at, at most: with many captions each look takes a while."""


def _usable(source: Source, concept: str, clip: Clip | None) -> bool:
    """Whether a concept can be forgotten and examined: there is a training pair about it, both
    exams can be set, and the model, if one is given, knows it.
    """
    try:
        exam, _ = (source.exam(concept, split) for split in ("search", "report"))
        if not len(source.forget_set(concept, 1, 0)):
            return False
    except (EmptySetError, UnknownConceptError):
        return False
    return clip is None or _known(clip, exam)


def _known(clip: Clip, exam: Exam) -> bool:
    """Whether the model is right about the concept's pictures more often than by chance."""
    told = answers(clip, exam)
    hits = int((told["true"] == told["answer"]).sum())
    return above_chance(hits, len(told), len(exam.classes(exam.target_domain)))


def several_concepts(
    source: Source, concept: str, most: int = 10, clip: Clip | None = None
) -> list[str]:
    """The concept and others of its kind: at most a quarter of all, but two, so that enough is left
    to lose.

    The studio's report concepts come first, and of a recipe's people the best known. In data other
    than the studio's all of the kind are those whom the concept's report exam shows, and the others
    are taken, among the first 100 names, that have a training pair and pictures for both exams and
    that `clip`, if given, knows: they may be fewer, or none. The studio's are taken unasked. Raises
    UnknownConceptError; for data other than the studio's what `source.exam` raises.
    """
    kind, known = source.kind(concept), source.concepts()
    best = (name for name in source.best_known(kind) if name in set(known))
    names = dict.fromkeys([*best, *known])
    alike = [name for name in names if name != concept and source.kind(name) == kind]
    if isinstance(source, StudioSource):
        return [concept, *alike][: min(most, max(2, (len(alike) + 1) // 4))]
    exam = source.exam(concept, "report")
    shown = len(set(exam.labels(exam.target_domain)) - {-1})
    found = (name for name in alike[:TRIED] if _usable(source, name, clip))
    return [concept, *islice(found, min(most, max(2, shown // 4)) - 1)]


def concepts_to_forget(
    source: Source, named: list[str], concept: str, clip: Clip | None = None
) -> list[str]:
    """The concepts that the settings name or, where they name none, those of `several_concepts`.

    Raises UnknownConceptError for a name that the source does not know, SettingError for fewer than
    two, and what `several_concepts` raises.
    """
    concepts = list(named) or several_concepts(source, concept, clip=clip)
    for name in concepts:
        source.kind(name)
    if len(concepts) < 2:
        more = "Name more in `concepts`."
        if not named:
            known = " and that the model knows" if clip else ""
            more = (
                f"No other of its kind in {source.name!r} was found that has training pairs and "
                f"pictures for both exams{known}; name them in `concepts`."
            )
        raise SettingError(
            f"There is one concept to forget, {concepts[0]!r}; two or more were expected. {more}"
        )
    return concepts


def _as_named(source: Source, concept: str, named: list[str]) -> list[str]:
    """The concept and the names given, each once. Raises UnknownConceptError."""
    for name in named:
        source.kind(name)
    return list(dict.fromkeys([concept, *named]))


def drawn_concepts(
    source: Source,
    clip: Clip,
    pipe: Any,
    concept: str,
    named: list[str],
    judge_model: str = "",
    sampling: tuple[int, float] = (STEPS, GUIDANCE),
    most: int = 2,
) -> list[str]:
    """The concept and what is forgotten beside it, each on its own: the names given or, where none
    are, up to `most` that the pipeline draws, characters of the data first, else others of the
    concept's kind. There may be fewer, or none.

    Raises UnknownConceptError for a name that the source does not know, and what
    `several_concepts` raises.
    """

    def check(name: str) -> None:
        asked = search_set(source, name)
        judge = judge_of(source, clip, asked, judge_model)
        require_drawn(pipe, judge, asked, domain_of(source, name), UA, *sampling)

    if named:
        return _as_named(source, concept, named)
    alike = (name for name in source.concepts() if source.kind(name) == "character")
    listed = [*source.best_known("character"), *islice(alike, TRIED)]
    listed = listed or several_concepts(source, concept, clip=clip)
    return [concept, *_passing((name for name in listed if name != concept), check, most)]


def _passing(names: Iterable[str], check: Callable[[str], Any], most: int) -> list[str]:
    """The first `most` of the names, each once, for which the check raises nothing of ours."""
    found: list[str] = []
    for name in dict.fromkeys(names):
        if len(found) < most:
            with suppress(SearchFailedError, SettingError, EmptySetError):
                check(name)
                found.append(name)
    return found


def named_people(source: Source, clip: Clip, vlm: Vlm, concept: str, named: list[str]) -> list[str]:
    """The concept and what is forgotten beside it, each on its own, of a vision-language model: the
    names given or, where none are, the next of its kind that is no neighbour of it and that the
    model names; on the studio the next report concept. Without one the concept stands alone.

    Raises UnknownConceptError for a name that the source does not know, and what
    `several_concepts` raises.
    """
    if named:
        return _as_named(source, concept, named)
    near, after = source.neighbours(concept), []
    if isinstance(source, StudioSource):
        listed = source.best_known(source.kind(concept))
        after = listed[listed.index(concept) + 1 :] if concept in listed else []
    listed = [*after, *several_concepts(source, concept, clip=clip)[1:]]
    apart = (n for n in listed if n not in near and concept not in source.neighbours(n))
    return [concept, *_passing(apart, partial(choose_words, vlm, source), 1)]
