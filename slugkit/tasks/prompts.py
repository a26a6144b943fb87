"""The prompts on which a pipeline is judged and looked at: which subject in which style, in whose
words, from which seed.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.data import drawn
from slugkit.studio import KINDS, Record, World, solo_records
from slugkit.studio.captions import IN_STYLE, article

TEMPLATES = {"search": (2, 3), "report": (0, 1)}
"""Which of a style's ways of saying it make the prompts of a split: the search never sees a report
prompt.
"""
FIRST_SEED = {"search": 100_000, "report": 200_000, "show": 300_000}
NEAR_TIMES = 3
"""How many times as many pictures of a neighbour as of any other subject."""


def subject_domains(world: World) -> dict[str, str]:
    """Every subject that can be drawn -> its domain: figures, objects or novel."""
    return {
        name: domain for domain in ("figures", "objects", "novel") for name in world.classes(domain)
    }


def phrase(world: World, subject: str) -> str:
    """The subject as a prompt names it: a figure by name, a thing with its article."""
    return subject if subject in world.classes("figures") else article(subject)


def plan(
    world: World, concept: str, target_size: int, size: int
) -> list[tuple[str, str, str, bool]]:
    """(subject, style, group, extra) of every picture of an answer set; arguments and meaning are
    those of `answer_set`.
    """
    domains, near = subject_domains(world), world.neighbours_of(concept)
    styled = concept in world.styles
    wanted = {"figures", "objects", domains.get(concept)}
    subjects = [s for s, d in domains.items() if d in wanted and s != concept]
    looks = [s for s in world.styles if s != concept]
    pairs = [(concept, looks[i % len(looks)]) for i in range(target_size)]
    if styled:
        pairs = [(subjects[i * 7 % len(subjects)], concept) for i in range(target_size)]
    rows = [(*pair, "target", False) for pair in pairs]
    for number, subject in enumerate(subjects):
        for k in range(size * (NEAR_TIMES if subject in near else 1)):
            style = looks[(number + k) % len(looks)]
            group = "neighbours" if (style if styled else subject) in near else "rest"
            rows.append((subject, style, group, k >= size))
    return rows


COLUMNS = ["prompt", "seed", "subject", "style", "domain", "group", "extra"]
"""What an answer set says of every picture."""


def as_showcase(rows: list[tuple[str, str]]) -> pd.DataFrame:
    """Prompts to look at, from (prompt, what) each: columns prompt, what, and seeds that no split
    uses.
    """
    shown = pd.DataFrame(rows, columns=["prompt", "what"])
    return shown.assign(seed=FIRST_SEED["show"] + np.arange(len(rows)))


def answer_set(
    world: World, concept: str, split: str, target_size: int = 28, size: int = 2
) -> pd.DataFrame:
    """The prompts of one concept's evaluation, one row a picture: prompt, seed, subject, style,
    domain, group, extra.

    concept: a subject or a style. split: "search" or "report"; their prompts and seeds are
    disjoint. target_size: pictures of the target, spread over all styles (for a style: over
    subjects). size: pictures of every other figure and object (and, for a novel concept, of every
    other novel one), each in another style; three times as many of the neighbours. group: target,
    neighbours or rest. extra: the neighbours' pictures beyond `size`, which count for the
    neighbours alone: in an average over classes each class has the same weight. Raises SettingError
    for another split, UnknownConceptError.
    """
    require_choice(split, TEMPLATES, "The split")
    world.kind(concept)
    domains, rows, ways = subject_domains(world), [], TEMPLATES[split]
    for number, (subject, style, *rest) in enumerate(plan(world, concept, target_size, size)):
        said = IN_STYLE[style][ways[number % len(ways)]].format(phrase(world, subject))
        rows.append((said, FIRST_SEED[split] + number, subject, style, domains[subject], *rest))
    return pd.DataFrame(rows, columns=COLUMNS)


def join_answer_sets(
    sets: list[pd.DataFrame], concepts: list[str], near: set[str], column: str = "subject"
) -> pd.DataFrame:
    """Answer sets of one concept each as one: all targets, then the rest of the first set, and of
    the others what is not in it.

    near: the concepts' neighbours, which make the group neighbours. column: subject or style,
    whichever the concepts are. The rest shows none of the concepts.
    """
    targets = [table[table["group"] == "target"] for table in sets]
    others = [table[(table["group"] != "target") & ~table[column].isin(concepts)] for table in sets]
    # the neighbours' additional pictures of every concept, subjects that no set before has, and
    # everything else as the first concept's set has it
    rest, known = [others[0]], set(sets[0]["subject"])
    tripled = others[0].loc[others[0]["extra"], "subject"]
    for whole, table in zip(sets[1:], others[1:]):
        more = table["extra"] & ~table["subject"].isin(tripled)
        rest.append(table[~table["subject"].isin(known) | more])
        known |= set(whole["subject"])
    rest = pd.concat(rest)
    rest = rest.assign(group=np.where(rest[column].isin(near), "neighbours", "rest"))
    together = pd.concat([*targets, rest], ignore_index=True)
    return together.drop_duplicates(["prompt", "seed"], ignore_index=True)


def require_one_domain(domains: dict[str, str]) -> str:
    """The one domain of the concepts (concept -> domain).

    Raises SettingError for several, or none.
    """
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
    """The answer sets of several concepts of one domain as one: `target_size` pictures of each, and
    the rest once.

    Columns as of `answer_set`. The rest shows none of the concepts; neighbours are those of any of
    them. Raises SettingError for concepts of several domains, UnknownConceptError.
    """
    domain = require_one_domain({c: KINDS[world.kind(c)] for c in concepts})
    sets = [answer_set(world, c, split, target_size, size) for c in concepts]
    near = {name for c in concepts for name in world.neighbours_of(c)} - set(concepts)
    return join_answer_sets(sets, concepts, near, "style" if domain == "styles" else "subject")


def showcase(world: World, concept: str) -> pd.DataFrame:
    """Eight prompts to look at, with seeds that no split uses: columns prompt, seed, what.

    The target in two looks, with a person and with an object (an odd combination: its parts
    instead), its neighbour, others of all domains. what: "target", "combination", "part",
    "neighbour" or "other".
    """
    kind, near = world.kind(concept), world.neighbours_of(concept)[0]
    people = [p for p in world.people if p not in (concept, near, *world.neighbours_of(concept))]
    parts = concept.replace("-shaped", "").split()
    things = [o for o in world.objects if o not in (concept, near, *parts)]
    looks = [s for s in world.styles if s not in (concept, near)]
    say = lambda style, subject, way=0: IN_STYLE[style][way].format(phrase(world, subject))  # noqa: E731
    name, thing, beside = phrase(world, concept), article(things[0]), "combination"
    if kind == "style":
        target = [say(concept, people[0]), say(concept, things[1], 1)]
        form, next_to = IN_STYLE[concept][0], say(near, people[0])
        pair = [
            form.format(f"{people[1]} with {people[2]}"),
            form.format(f"{people[3]} with {thing}"),
        ]
    else:
        target, next_to = [say(looks[0], concept), say(looks[2], concept, 1)], say(looks[0], near)
        pair = [f"{people[1]} with {name}", f"{people[0]} and {name}"]
    if kind in ("person", "character"):
        pair = [f"{name} with {people[0]}", f"{name} with {thing}"]
    elif kind == "novel":
        beside, pair = "part", [say(looks[0], part) for part in concept.split("-shaped ")]
    others = (looks[4], people[5]), (looks[0], things[2]), (looks[3], things[3])
    rows = [(prompt, "target") for prompt in target] + [(prompt, beside) for prompt in pair]
    rows += [(next_to, "neighbour"), *((say(*other), "other") for other in others)]
    return as_showcase(rows)


def counterparts(world: World, pairs: list[tuple[str, str]], split: str = "report") -> list[Record]:
    """For each subject and style a picture that the studio itself draws: the first, the second, ...

    where a pair occurs again.
    """
    seen: dict[tuple[str, str], int] = {}
    records = []
    for subject, style in pairs:
        k = seen[subject, style] = seen.get((subject, style), -1) + 1
        records.append(solo_records(split, subject, k + 1, [style], world)[k])
    return records


def drawn_counterparts(world: World, table: pd.DataFrame) -> np.ndarray:
    """For each row of an answer set a picture that the studio itself drew, report split: (N, 64,
    64, 3) uint8, for the Frechet distance.
    """
    if table.empty:
        raise SettingError("The answer set is empty; at least one row was expected.")
    return drawn(counterparts(world, list(zip(table["subject"], table["style"]))))
