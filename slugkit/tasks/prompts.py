"""The studio's prompts: which subject in which style, in whose words, from which seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.studio import KINDS, Record, World, solo_records
from slugkit.studio.captions import IN_STYLE, article

TEMPLATES = {"search": (2, 3), "report": (0, 1)}
"""Which of a style's ways of saying it make the prompts of a split: the two share none."""
FIRST_SEED = {"search": 100_000, "report": 200_000, "show": 300_000}
NEAR_TIMES = 3
"""How many times as many pictures of a neighbour as of any other subject."""
COLUMNS = ["prompt", "seed", "subject", "style", "domain", "group", "extra"]
"""What an answer set says of every picture."""
Row = tuple[str, str, str, str, bool]
"""Subject, style, domain, group and extra of one picture of an answer set."""


def as_answer_set(rows: list[Row], split: str, say: Callable[[int, Row], str]) -> pd.DataFrame:
    """The answer set of these pictures, with a seed each. say: number and row -> prompt."""
    first = FIRST_SEED[split]
    table = [(say(number, row), first + number, *row) for number, row in enumerate(rows)]
    return pd.DataFrame(table, columns=COLUMNS)


def as_showcase(rows: list[tuple[str, str]]) -> pd.DataFrame:
    """Prompts to look at, from (prompt, what) each, with seeds that no split uses."""
    shown = pd.DataFrame(rows, columns=["prompt", "what"])
    return shown.assign(seed=FIRST_SEED["show"] + np.arange(len(rows)))


def rest_of(
    subjects: Iterable[tuple[str, str, bool]],
    size: int,
    looks: Sequence[str] = ("",),
    near_styles: Iterable[str] = (),
) -> list[Row]:
    """The pictures beside the target's: `size` of each subject, three times as many of a neighbour.

    subjects: name, domain and whether it is a neighbour. looks: the styles, in turn. near_styles:
    styles that make a picture a neighbour.
    """
    rows = []
    for number, (name, domain, close) in enumerate(subjects):
        for k in range(size * (NEAR_TIMES if close else 1)):
            style = looks[(number + k) % len(looks)]
            group = "neighbours" if close or style in near_styles else "rest"
            rows.append((name, style, domain, group, k >= size))
    return rows


def subject_domains(world: World) -> dict[str, str]:
    """Every subject that can be drawn -> its domain: figures, objects or novel."""
    return {
        name: domain for domain in ("figures", "objects", "novel") for name in world.classes(domain)
    }


def phrase(world: World, subject: str) -> str:
    """The subject as a prompt names it: a figure by name, a thing with its article."""
    return subject if subject in world.classes("figures") else article(subject)


def plan(world: World, concept: str, target_size: int, size: int) -> list[Row]:
    """The pictures of a concept's answer set; arguments are those of `answer_set`."""
    domains, near = subject_domains(world), world.neighbours_of(concept)
    styled = concept in world.styles
    wanted = {"figures", "objects", domains.get(concept)}
    subjects = [s for s, d in domains.items() if d in wanted and s != concept]
    looks = [s for s in world.styles if s != concept]
    pairs = [(concept, looks[i % len(looks)]) for i in range(target_size)]
    if styled:
        pairs = [(subjects[i * 7 % len(subjects)], concept) for i in range(target_size)]
    target = [(subject, style, domains[subject], "target", False) for subject, style in pairs]
    others = [(subject, domains[subject], subject in near) for subject in subjects]
    return target + rest_of(others, size, looks, near if styled else ())


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
    ways = TEMPLATES[require_choice(split, TEMPLATES, "The split")]
    world.kind(concept)

    def say(number: int, row: Row) -> str:
        return IN_STYLE[row[1]][ways[number % len(ways)]].format(phrase(world, row[0]))

    return as_answer_set(plan(world, concept, target_size, size), split, say)


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
    rest = np.flatnonzero((table["group"] != "target") & ~table["extra"])
    if not others:
        return table
    kept = rest[np.linspace(0, len(rest) - 1, min(len(rest), others)).round().astype(int)]
    target = np.flatnonzero(table["group"] == "target")
    return table.iloc[[*target, *kept]].reset_index(drop=True)


def require_one_domain(domains: dict[str, str]) -> str:
    """The one domain of the concepts (concept -> domain). Raises SettingError for several."""
    found = set(domains.values())
    if len(found) != 1:
        raise SettingError(
            f"The concepts {', '.join(domains)} are of the domains"
            f" {', '.join(sorted(found)) or 'none'}; one domain was expected, since UA, IRA and CRA"
            " are told apart by it."
        )
    return found.pop()


def several_answer_set(
    world: World, concepts: list[str], split: str, target_size: int = 28, size: int = 2
) -> pd.DataFrame:
    """The answer sets of several concepts of one domain as one. Raises SettingError for several
    domains.
    """
    domain = require_one_domain({c: KINDS[world.kind(c)] for c in concepts})
    sets = [answer_set(world, c, split, target_size, size) for c in concepts]
    near = {name for c in concepts for name in world.neighbours_of(c)} - set(concepts)
    return join_answer_sets(sets, concepts, near, "style" if domain == "styles" else "subject")


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
        return IN_STYLE[style][way].format(phrase(world, subject))

    name, thing, beside = phrase(world, concept), article(things[0]), "combination"
    if kind == "style":
        target, next_to = [say(concept, people[0]), say(concept, things[1], 1)], (near, people[0])
        both = f"{people[1]} with {people[2]}", f"{people[3]} with {thing}"
        pair = [IN_STYLE[concept][0].format(said) for said in both]
    else:
        target, next_to = [say(looks[0], concept), say(looks[2], concept, 1)], (looks[0], near)
        pair = [f"{people[1]} with {name}", f"{people[0]} and {name}"]
    if kind in ("person", "character"):
        pair = [f"{name} with {people[0]}", f"{name} with {thing}"]
    elif kind == "novel":
        beside, pair = "part", [say(looks[0], part) for part in concept.split("-shaped ")]
    others = (looks[4], people[5]), (looks[0], things[2]), (looks[3], things[3])
    rows = [(prompt, "target") for prompt in target] + [(prompt, beside) for prompt in pair]
    rows += [(say(*next_to), "neighbour"), *((say(*other), "other") for other in others)]
    return as_showcase(rows)


def counterparts(world: World, pairs: list[tuple[str, str]], split: str = "report") -> list[Record]:
    """For each subject and style a picture that the studio draws: the first, the second, ..."""
    seen: dict[tuple[str, str], int] = {}
    records = []
    for subject, style in pairs:
        k = seen[subject, style] = seen.get((subject, style), -1) + 1
        records.append(solo_records(split, subject, k + 1, [style], world)[k])
    return records
