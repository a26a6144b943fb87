"""The prompts for data that are not the studio's: people by name and ordinary things, in the
paper's words.

The prompts of the studio stand in `slugkit.tasks.prompts`, those of UnlearnCanvas in
`slugkit.tasks.canvas_prompts`; the three functions at the end serve every source.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit import studio
from slugkit.base import EmptySetError, require_choice
from slugkit.data import CanvasSource, Source, StudioSource
from slugkit.studio.captions import article
from slugkit.tasks import prompts
from slugkit.tasks.canvas_prompts import canvas_answer_set, canvas_showcase
from slugkit.tasks.prompts import FIRST_SEED, NEAR_TIMES

PEOPLE = {
    "search": ("A portrait of {}", "{} singing", "a picture of {}", "an image of {}"),
    "report": ("A portrait photo of {}", "{} on Mars", "a photo of {}"),
}
"""Prompts for people by split, the first two of each from the paper's pictures; the search never
sees a report prompt.
"""
THINGS = {"search": ("a picture of {}", "an image of {}"), "report": ("a photo of {}", "{}")}
"""The same for objects, and for classes of which the data do not say what they are.

The bare name is the paper's ("an avocado chair").
"""
OTHERS = 20
"""Subjects of each domain beside the target, neighbours included."""
KNOWN = {
    "figures": ("Elon Musk", "Mark Zuckerberg", "Taylor Swift", "Jeff Bezos", "Kim Kardashian"),
    "objects": ("avocado", "orange", "chair", "sea turtle", "astronaut", "horse", "cat", "mouse"),
}
"""People and things from the paper's pictures and tables: what stands in where the data hold
nobody, or nothing, else.
"""


def phrase(subject: str, domain: str) -> str:
    """The subject as a prompt names it: a person by name, a thing with its article; a class of
    unknown sort as it is written.
    """
    if domain != "objects":
        return subject
    return f"{article(subject.lower()).partition(' ')[0]} {subject}"


def _evenly(names: list[str], count: int) -> list[str]:
    """At most `count` of the names, evenly over their order."""
    if len(names) <= count:
        return names
    return [names[i] for i in np.linspace(0, len(names) - 1, count).round().astype(int)]


def other_subjects(source: Source, concept: str, others: int = OTHERS) -> dict[str, list[str]]:
    """What must stay, by domain, that of the concept first: domain -> at most `others` subjects,
    the concept's neighbours before the rest.

    They are subjects of the report exam: of a recipe's people the best known
    (`slugkit.data.celeba.CelebA.frequent`), of other domains some that lie evenly over the list of
    classes. Where a domain has none, those of KNOWN stand in, so that there always is another
    domain. Raises EmptySetError where nothing else is in the concept's own domain, and what
    `source.exam` raises.
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


def _rows(
    subjects: dict[str, list[str]], own: str, near: list[str], size: int
) -> list[tuple[str, str, str, bool]]:
    """(subject, domain, group, extra) of every picture beside the target's."""
    rows = []
    for domain, names in subjects.items():
        for name in names:
            close = domain == own and name in near
            rows += [
                (name, domain, "neighbours" if close else "rest", k >= size)
                for k in range(size * (NEAR_TIMES if close else 1))
            ]
    return rows


def paper_answer_set(
    source: Source,
    concept: str,
    split: str,
    target_size: int = 28,
    size: int = 2,
    others: int = OTHERS,
) -> pd.DataFrame:
    """The prompts of one concept's evaluation, one row a picture, with the columns of
    `slugkit.tasks.prompts.answer_set`; style is "" throughout.

    target_size: pictures of the target. size: pictures of each other subject, three times as many
    of a neighbour. others: subjects of each domain beside the target. The subjects are the same in
    both splits; prompts and seeds are not. IRA rests on the others of the target's domain, CRA on
    the other domain.
    Raises SettingError for another split, EmptySetError, UnknownConceptError.
    """
    require_choice(split, PEOPLE, "The split")
    subjects, near = other_subjects(source, concept, others), source.neighbours(concept)
    own = next(iter(subjects))
    rows = [(concept, own, "target", False)] * target_size + _rows(subjects, own, near, size)
    table = []
    for number, (subject, domain, *rest) in enumerate(rows):
        ways = (PEOPLE if domain == "figures" else THINGS)[split]
        said = ways[number % len(ways)].format(phrase(subject, domain))
        table.append((said, FIRST_SEED[split] + number, subject, "", domain, *rest))
    return pd.DataFrame(table, columns=prompts.COLUMNS)


def paper_showcase(source: Source, concept: str) -> pd.DataFrame:
    """Up to eight prompts to look at, with seeds that no split uses: columns prompt, seed, what, as
    of `slugkit.tasks.prompts.showcase`.

    The target in two ways, with another of its domain and with one of the other domain, its first
    neighbour (where it has one), others. Raises EmptySetError.
    """
    subjects, near = other_subjects(source, concept), source.neighbours(concept)
    own, other = list(subjects)[:2]
    rest = [name for name in subjects[own] if name not in near]

    def say(name: str, domain: str, way: int = 0) -> str:
        ways = (PEOPLE if domain == "figures" else THINGS)["report"]
        return ways[way].format(phrase(name, domain))

    rows = [(say(concept, own), "target"), (say(concept, own, 1), "target")]
    rows += [(say(f"{concept} and {name}", "classes"), "combination") for name in rest[:1]]
    both = f"{phrase(concept, own)} and {phrase(subjects[other][0], other)}"
    rows.append((say(both, "classes"), "combination"))
    rows += [(say(name, own), "neighbour") for name in near[:1]]
    rows += [(say(name, own), "other") for name in rest[1:2]]
    rows += [(say(name, other), "other") for name in subjects[other][1:4]]
    return prompts.as_showcase(rows[:8])


def domain_of(source: Source, concept: str) -> str:
    """The domain of a concept of any source.

    Raises UnknownConceptError, and for data other than the studio what `source.exam` raises.
    """
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
    """The answer set of a concept of any source: of the studio
    `slugkit.tasks.prompts.answer_set`, of UnlearnCanvas
    `slugkit.tasks.canvas_prompts.canvas_answer_set` (which alone looks at `tier`), of others
    `paper_answer_set`.
    """
    if isinstance(source, CanvasSource):
        return canvas_answer_set(concept, split, tier, target_size, size)
    if isinstance(source, StudioSource):
        return prompts.answer_set(source.world, concept, split, target_size, size)
    return paper_answer_set(source, concept, split, target_size, size)


def showcase_of(source: Source, concept: str) -> pd.DataFrame:
    """Prompts to look at for a concept of any source: of the studio
    `slugkit.tasks.prompts.showcase`, of UnlearnCanvas
    `slugkit.tasks.canvas_prompts.canvas_showcase`, of others `paper_showcase`.
    """
    if isinstance(source, CanvasSource):
        return canvas_showcase(concept)
    if isinstance(source, StudioSource):
        return prompts.showcase(source.world, concept)
    return paper_showcase(source, concept)
