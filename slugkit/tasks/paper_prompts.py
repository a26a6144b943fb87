"""The prompts for data other than the studio's, and (at the end) for any source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit import studio
from slugkit.base import EmptySetError, require_choice
from slugkit.data import CanvasSource, Source, StudioSource
from slugkit.studio.captions import article
from slugkit.tasks import prompts
from slugkit.tasks.canvas_prompts import canvas_answer_set, canvas_showcase

PEOPLE = {
    "search": ("A portrait of {}", "{} singing", "a picture of {}", "an image of {}"),
    "report": ("A portrait photo of {}", "{} on Mars", "a photo of {}"),
}
"""Prompts for people by split, the first two of each from the paper's pictures."""
THINGS = {"search": ("a picture of {}", "an image of {}"), "report": ("a photo of {}", "{}")}
"""The same for other classes; the bare name is the paper's ("an avocado chair")."""
OTHERS = 20
"""Subjects of each domain beside the target, neighbours included."""
KNOWN = {
    "figures": ("Elon Musk", "Mark Zuckerberg", "Taylor Swift", "Jeff Bezos", "Kim Kardashian"),
    "objects": ("avocado", "orange", "chair", "sea turtle", "astronaut", "horse", "cat", "mouse"),
}
"""From the paper's pictures and tables: what stands in where the data hold nobody, or nothing,
else.
"""


def phrase(subject: str, domain: str) -> str:
    """The subject as a prompt names it: of the objects with its article, else as it is written."""
    if domain != "objects":
        return subject
    return f"{article(subject.lower()).partition(' ')[0]} {subject}"


def _say(name: str, domain: str, split: str, number: int) -> str:
    ways = (PEOPLE if domain == "figures" else THINGS)[split]
    return ways[number % len(ways)].format(phrase(name, domain))


def _evenly(names: list[str], count: int) -> list[str]:
    """At most `count` of the names, evenly over their order."""
    if len(names) <= count:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, count).round().astype(int)]


def other_subjects(source: Source, concept: str, others: int = OTHERS) -> dict[str, list[str]]:
    """What must stay, by domain, the concept's first: at most `others` subjects, neighbours first.

    Of a recipe's people they are the best known, of other domains some that lie evenly over the
    report exam's classes. Where a domain has none, those of KNOWN stand in. Raises EmptySetError
    where nothing else is in the concept's own domain, and what `source.exam` raises.
    """
    exam, near, found = source.exam(concept, "report"), source.neighbours(concept), {}
    own, people = exam.target_domain, getattr(source, "people", None)
    for domain in dict.fromkeys([own, *exam.prompts, "figures" if own == "objects" else "objects"]):
        first = near[:others] if domain == own else []
        if domain == "figures" and people is not None:
            listed = people.frequent()["name"].tolist()
        else:
            pictured = set(exam.pairs.table.loc[exam.pairs.table["domain"] == domain, "concept"])
            known = exam.classes(domain) if domain in exam.prompts else ()
            listed = [name for name in known if name in pictured]
        rest = [name for name in listed if name not in (concept, *first)]
        room = others - len(first)
        names = [*first, *(rest[:room] if domain == "figures" else _evenly(rest, room))]
        named = {concept, *(name for others_of in found.values() for name in others_of)}
        found[domain] = names or [name for name in KNOWN.get(domain, ()) if name not in named]
        if not found[domain]:
            raise EmptySetError(
                f"The data {source.name!r} hold no other class than {concept!r} to be drawn; one or"
                " more were expected, since IRA is measured on them. Add pictures of others."
            )
    return found


def paper_answer_set(
    source: Source,
    concept: str,
    split: str,
    target_size: int = 28,
    size: int = 2,
    others: int = OTHERS,
) -> pd.DataFrame:
    """The prompts of one concept's evaluation, as of `prompts.answer_set`; style is "" throughout.

    others: subjects of each domain beside the target, the same in both splits. IRA rests on the
    others of the target's domain, CRA on the other domain. Raises SettingError, EmptySetError,
    UnknownConceptError.
    """
    require_choice(split, PEOPLE, "The split")
    subjects, near = other_subjects(source, concept, others), source.neighbours(concept)
    own = next(iter(subjects))
    rest = [
        (name, domain, domain == own and name in near)
        for domain, names in subjects.items()
        for name in names
    ]
    rows = [(concept, "", own, "target", False)] * target_size + prompts.rest_of(rest, size)
    return prompts.as_answer_set(rows, split, lambda n, row: _say(row[0], row[2], split, n))


def paper_showcase(source: Source, concept: str) -> pd.DataFrame:
    """Up to eight prompts to look at, as of `prompts.showcase`. Raises EmptySetError."""
    subjects, near = other_subjects(source, concept), source.neighbours(concept)
    own, other = list(subjects)[:2]
    rest = [name for name in subjects[own] if name not in near]

    def say(name: str, domain: str, way: int = 0) -> str:
        return _say(name, domain, "report", way)

    rows = [(say(concept, own), "target"), (say(concept, own, 1), "target")]
    rows += [(say(f"{concept} and {name}", "classes"), "combination") for name in rest[:1]]
    both = f"{phrase(concept, own)} and {phrase(subjects[other][0], other)}"
    rows.append((say(both, "classes"), "combination"))
    rows += [(say(name, own), "neighbour") for name in near[:1]]
    rows += [(say(name, own), "other") for name in rest[1:2]]
    rows += [(say(name, other), "other") for name in subjects[other][1:4]]
    return prompts.as_showcase(rows[:8])


def domain_of(source: Source, concept: str) -> str:
    """The domain of a concept of any source. Raises what `source.exam` raises."""
    if isinstance(source, StudioSource):
        return studio.KINDS[source.kind(concept)]
    return source.exam(concept, "report").target_domain


def answer_set_of(
    source: Source,
    concept: str,
    split: str,
    target_size: int = 28,
    size: int = 2,
    tier: str = "smoke",
) -> pd.DataFrame:
    """The answer set of a concept of any source; only UnlearnCanvas's has a `tier`."""
    if isinstance(source, CanvasSource):
        return canvas_answer_set(concept, split, tier, target_size, size)
    if isinstance(source, StudioSource):
        return prompts.answer_set(source.world, concept, split, target_size, size)
    return paper_answer_set(source, concept, split, target_size, size)


def showcase_of(source: Source, concept: str) -> pd.DataFrame:
    """Prompts to look at for a concept of any source."""
    if isinstance(source, CanvasSource):
        return canvas_showcase(concept)
    if isinstance(source, StudioSource):
        return prompts.showcase(source.world, concept)
    return paper_showcase(source, concept)
