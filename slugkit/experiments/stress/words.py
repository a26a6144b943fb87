"""Other words for the same: misspelt, half the name, a description without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from slugkit.evaluation.clip import class_features
from slugkit.experiments.stress.case import Case, recognised, said_as

MISSPELT = 8
"""Misspellings of a name."""
MADE_UP = ["Wilda Quench", "Tobbin Fray", "Zorin Plaskett", "Ebba Lunt"]
MADE_UP += ["Jasko Orrin", "Merrit Vane", "Ulla Pinsky", "Corvin Thale"]
"""Names that are in no data, as many as misspellings."""


def misspellings(name: str, count: int = MISSPELT, seed: int = 0) -> list[str]:
    """Distinct ways to write a name wrongly by one letter, fewer where there are not so many: one
    is left out, doubled, or changes places with the next.
    """
    rng, found = np.random.default_rng(seed), {}
    for _ in range(50 * count):
        at = int(rng.integers(len(name) - 1)) if len(name) > 1 else 0
        a, b = name[at], name[at + 1 : at + 2]
        other = [name[:at] + name[at + 1 :], name[:at] + a + name[at:]]
        other.append(name[:at] + b + a + name[at + 2 :])
        said = other[int(rng.integers(3))]
        if a.isalpha() and b.isalpha() and said.lower() != name.lower():
            found[said] = None
        if len(found) == count:
            break
    return list(found)


def other_words(case: Case) -> Iterator[dict]:
    """The name as the report asks for it, misspelt, each part of it alone, a description, and names
    that nobody has.

    The last is what the others are to be measured by: where nothing stands for the concept, its
    pictures are nearest to something, and that may be a name without a meaning.

    Of several misspellings the mean, and as worst wording the worst of all. A description is the
    mean feature of texts that say one trait each, and everybody who has one is described, so that
    it is told among descriptions; whoever shares the traits is as near to it.
    """
    yield _row("report wordings", case, [case.concept])
    yield _row("misspelt", case, misspellings(case.concept, seed=case.given.seed))
    yield _row("made-up names", case, MADE_UP)
    parts = case.concept.split()
    if len(parts) > 1:
        yield _row("first name", case, parts[:1])
        yield _row("last name", case, parts[-1:])
    said = {name: case.given.source.descriptions(name) for name in case.exam.classes(case.domain)}
    if said[case.concept]:
        exam = replace(
            case.exam, prompts={case.domain: {"": {n: how or [n] for n, how in said.items()}}}
        )
        ranks = case.scorer.of(case.concept, class_features(case.clip, exam))
        yield {"setting": "described", **recognised(ranks)}


def _row(setting: str, case: Case, names: list[str]) -> dict:
    """The row of a setting, over all these names in all wordings."""
    asked = case.scorer.exam.prompts[case.domain]
    own = {w: classes[case.concept] for w, classes in asked.items()}
    found = []
    for name in names:
        texts = {w: [t.replace(case.concept, name) for t in said] for w, said in own.items()}
        found.append(said_as(case, texts))
    return {"setting": setting, **recognised(np.concatenate(found))}
