"""Prompts: which subject in which style, in whose words, from which seed.

Those of the studio first, then those for data of another kind, where there are no styles.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from slugkit.base import EmptySetError, require_choice
from slugkit.data import Source
from slugkit.studio import World
from slugkit.studio.captions import article

FIRST_SEED = {"search": 100_000, "report": 200_000, "show": 300_000}
NEAR_TIMES = 3
"""How many times as many pictures of a neighbour as of any other subject."""
OTHERS = 20
"""Subjects of each domain beside the target, neighbours included, outside the studio."""
COLUMNS = ["prompt", "seed", "subject", "style", "domain", "group", "extra"]
"""What an answer set says of every picture."""
Row = tuple[str, str, str, str, bool]
"""Subject, style, domain, group and extra of one picture of an answer set."""
WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
"""Prompts for figures, for other things and for UnlearnCanvas's search, and questions, by split;
and from the paper's pictures and tables who, or what, is known where the data hold nothing else.

Of the prompts for figures the first two are from the paper's pictures, of those for things the bare
name ("an avocado chair"). UnlearnCanvas's own prompt is for the report alone.
"""


def phrase(subject: str, domain: str) -> str:
    """The subject as a prompt names it: a thing with its article, else as it is written."""
    if domain not in ("objects", "novel"):
        return subject
    return f"{article(subject.lower()).partition(' ')[0]} {subject}"


def as_answer_set(rows: list[Row], split: str, say: Callable[[int, Row], str]) -> pd.DataFrame:
    """The answer set of these pictures, with a seed each. say: number and row -> prompt."""
    first = FIRST_SEED[split]
    table = [(say(number, row), first + number, *row) for number, row in enumerate(rows)]
    return pd.DataFrame(table, columns=COLUMNS)


def as_showcase(rows: list[tuple[str, str]]) -> pd.DataFrame:
    """Prompts to look at, from (prompt, what) each, with seeds that no split uses."""
    shown = pd.DataFrame(rows, columns=["prompt", "what"])
    return shown.assign(seed=FIRST_SEED["show"] + np.arange(len(rows)))


def _rest(
    subjects: dict[str, str],
    near: list[str],
    size: int,
    looks: Sequence[str] = ("",),
    near_styles: Iterable[str] = (),
) -> list[Row]:
    """The pictures beside the target's: `size` of each subject (name -> domain), each in the next
    of the `looks`, three times as many of a neighbour.
    """
    rows = []
    for number, (name, domain) in enumerate(subjects.items()):
        for k in range(size * (NEAR_TIMES if name in near else 1)):
            style = looks[(number + k) % len(looks)]
            group = "neighbours" if name in near or style in near_styles else "rest"
            rows.append((name, style, domain, group, k >= size))
    return rows


def subject_domains(world: World) -> dict[str, str]:
    """Every subject that can be drawn -> its domain: figures, objects or novel."""
    return {
        name: domain for domain in ("figures", "objects", "novel") for name in world.classes(domain)
    }


def in_style(world: World, subject: str, style: str, split: str, way: int = 0) -> str:
    """A prompt in one of a style's ways of saying it, of which the splits share none."""
    ways = list(world.wordings["styles"][split][style].values())
    return ways[way % len(ways)].format(phrase(subject, subject_domains(world)[subject]))


def plan(world: World, concept: str, target_size: int, size: int) -> list[Row]:
    """The pictures of a concept's answer set; arguments are those of `answer_set`."""
    domains, near = subject_domains(world), world.neighbours_of(concept)
    styled = concept in world.styles
    wanted = {"figures", "objects", domains.get(concept)}
    others = {s: d for s, d in domains.items() if d in wanted and s != concept}
    subjects, looks = list(others), [s for s in world.styles if s != concept]
    pairs = [(concept, looks[i % len(looks)]) for i in range(target_size)]
    if styled:
        pairs = [(subjects[i * 7 % len(subjects)], concept) for i in range(target_size)]
    target = [(subject, style, domains[subject], "target", False) for subject, style in pairs]
    return target + _rest(others, near, size, looks, near if styled else ())


def answer_set(
    world: World, concept: str, split: str, target_size: int = 28, size: int = 2
) -> pd.DataFrame:
    """The prompts of one concept's evaluation: prompt, seed, subject, style, domain, group, extra.

    concept: a subject or a style. target_size: pictures of the target, over all styles (or
    subjects). size: pictures of every other subject, each in another style; three times as many of
    the neighbours, whose `extra` ones count for these alone, so that in an average over classes
    each weighs the same. group: target, neighbours or rest. Raises SettingError,
    UnknownConceptError.
    """
    require_choice(split, world.wordings["styles"], "The split")
    world.kind(concept)
    rows = plan(world, concept, target_size, size)
    return as_answer_set(rows, split, lambda n, row: in_style(world, *row[:2], split, n))


def join_answer_sets(
    sets: list[pd.DataFrame], concepts: list[str], near: set[str], column: str = "subject"
) -> pd.DataFrame:
    """Answer sets of one concept each as one: all targets, and every other picture once.

    near: the concepts' neighbours. column: subject or style, whichever the concepts are.
    """
    targets = [table[table["group"] == "target"] for table in sets]
    others = [table[(table["group"] != "target") & ~table[column].isin(concepts)] for table in sets]
    # the neighbours' additional pictures of every concept, subjects that no set before has, and
    # everything else as the first concept's set has it
    rest, known = [others[0]], set(sets[0]["subject"])
    tripled = set(others[0].loc[others[0]["extra"], "subject"])
    for whole, table in zip(sets[1:], others[1:]):
        more = table["extra"] & ~table["subject"].isin(tripled)
        rest.append(table[~table["subject"].isin(known) | more])
        known |= set(whole["subject"])
        tripled |= set(table.loc[more, "subject"])
    rest = pd.concat(rest)
    rest = rest.assign(group=np.where(rest[column].isin(near), "neighbours", "rest"))
    together = pd.concat([*targets, rest], ignore_index=True)
    return together.drop_duplicates(["prompt", "seed"], ignore_index=True)


def some_others(table: pd.DataFrame, others: int) -> pd.DataFrame:
    """An answer set with only so many of the pictures that do not show the target, evenly over its
    rows and therefore over its domains, and none of the additional ones of neighbours; 0 leaves it
    as it is.
    """
    if not others:
        return table
    rest = np.flatnonzero((table["group"] != "target") & ~table["extra"])
    target = np.flatnonzero(table["group"] == "target")
    return table.iloc[[*target, *_evenly(rest, others)]].reset_index(drop=True)


def showcase(world: World, concept: str) -> pd.DataFrame:
    """Eight prompts to look at: columns prompt, seed, what.

    what: "target" (in two looks), "combination" (with a person and an object), "part" (of an odd
    combination), "neighbour" or "other".
    """
    kind, near = world.kind(concept), world.neighbours_of(concept)[0]
    people = [p for p in world.people if p not in (concept, *world.neighbours_of(concept))]
    parts = concept.replace("-shaped", "").split()
    things = [o for o in world.objects if o not in (concept, near, *parts)]
    looks = [s for s in world.styles if s not in (concept, near)]

    def say(style: str, subject: str, way: int = 0) -> str:
        return in_style(world, subject, style, "report", way)

    thing, beside = article(things[0]), "combination"
    if kind == "style":
        target, next_to = [say(concept, people[0]), say(concept, things[1], 1)], (near, people[0])
        both = f"{people[1]} with {people[2]}", f"{people[3]} with {thing}"
        pair = [world.in_style(concept)[0].format(said) for said in both]
    else:
        name = phrase(concept, subject_domains(world)[concept])
        target, next_to = [say(looks[0], concept), say(looks[2], concept, 1)], (looks[0], near)
        pair = [f"{people[1]} with {name}", f"{people[0]} and {name}"]
    if kind in ("person", "character"):
        pair = [f"{concept} with {people[0]}", f"{concept} with {thing}"]
    elif kind == "novel":
        beside, pair = "part", [say(looks[0], part) for part in concept.split("-shaped ")]
    others = (looks[4], people[5]), (looks[0], things[2]), (looks[3], things[3])
    rows = [(prompt, "target") for prompt in target] + [(prompt, beside) for prompt in pair]
    rows += [(say(*next_to), "neighbour"), *((say(*other), "other") for other in others)]
    return as_showcase(rows)


def _evenly(names: Sequence, count: int) -> list:
    """At most `count` of them, evenly over their order."""
    places = np.linspace(0, len(names) - 1, min(len(names), count)).round().astype(int)
    return [names[i] for i in places]


def other_subjects(source: Source, concept: str, others: int = OTHERS) -> dict[str, list[str]]:
    """What must stay, by domain, the concept's first: at most `others` subjects, neighbours first.

    Of a recipe's people they are the best known, of other domains some that lie evenly over the
    report exam's classes. Where a domain has none, those that the paper knows stand in. Raises
    EmptySetError where nothing else is in the concept's own domain, and what `source.exam` raises.
    """
    exam, near, found = source.exam(concept, "report"), source.neighbours(concept), {}
    own, people = exam.target_domain, source.best_known("person")
    for domain in dict.fromkeys([own, *exam.prompts, "figures" if own == "objects" else "objects"]):
        first = near[:others] if domain == own else []
        listed = people if domain == "figures" else []
        if not listed:
            pictured = set(exam.pairs.table.loc[exam.pairs.table["domain"] == domain, "concept"])
            known = exam.classes(domain) if domain in exam.prompts else ()
            listed = [name for name in known if name in pictured]
        rest = [name for name in listed if name not in (concept, *first)]
        room = others - len(first)
        names = [*first, *(rest[:room] if domain == "figures" else _evenly(rest, room))]
        named = {concept, *(name for others_of in found.values() for name in others_of)}
        stand_in = (name for name in WORDS["known"].get(domain, ()) if name not in named)
        found[domain] = names or list(stand_in)
        if not found[domain]:
            raise EmptySetError(
                f"The data {source.name!r} hold no other class than {concept!r} to be drawn; one or"
                " more were expected, since IRA is measured on them. Add pictures of others."
            )
    return found


def _say(name: str, domain: str, split: str, number: int = 0) -> str:
    ways = WORDS["prompts"]["figures" if domain == "figures" else "things"][split]
    return ways[number % len(ways)].format(phrase(name, domain))


def paper_answer_set(
    source: Source, concept: str, split: str, target_size: int = 28, size: int = 2
) -> pd.DataFrame:
    """The prompts of one concept's evaluation, as of `answer_set`; style is "" throughout.

    IRA rests on the others of the target's domain, CRA on the other domain. Raises SettingError,
    EmptySetError, UnknownConceptError.
    """
    require_choice(split, ("search", "report"), "The split")
    subjects, near = other_subjects(source, concept), source.neighbours(concept)
    own = next(iter(subjects))
    rows = [(concept, "", own, "target", False)] * target_size
    for domain, names in subjects.items():
        rows += _rest(dict.fromkeys(names, domain), near if domain == own else [], size)
    return as_answer_set(rows, split, lambda n, row: _say(row[0], row[2], split, n))


def paper_showcase(source: Source, concept: str) -> pd.DataFrame:
    """Up to eight prompts to look at, as of `showcase`. Raises EmptySetError."""
    subjects, near = other_subjects(source, concept), source.neighbours(concept)
    own, other = list(subjects)[:2]
    rest = [name for name in subjects[own] if name not in near]
    both = f"{phrase(concept, own)} and {phrase(subjects[other][0], other)}"
    pairs = [*(f"{concept} and {name}" for name in rest[:1]), both]
    shown = [(concept, own, "target", 0), (concept, own, "target", 1)]
    shown += [(pair, "classes", "combination", 0) for pair in pairs]
    shown += [(name, own, "neighbour", 0) for name in near[:1]]
    shown += [(name, own, "other", 0) for name in rest[1:2]]
    shown += [(name, other, "other", 0) for name in subjects[other][1:4]]
    rows = [(_say(name, domain, "report", way), what) for name, domain, what, way in shown]
    return as_showcase(rows[:8])
