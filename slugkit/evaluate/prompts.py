"""The prompts on which a pipeline is judged and looked at: which subject in which style, in whose words, from which seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.data import drawn
from slugkit.studio import KINDS, Record, World, solo_records
from slugkit.studio.captions import IN_STYLE, article

TEMPLATES = {"search": (2, 3), "report": (0, 1)}
"""Which of a style's ways of saying it make the prompts of a split: the search never sees a report prompt."""
FIRST_SEED = {"search": 100_000, "report": 200_000, "show": 300_000}
NEAR_TIMES = 3
"""How many times as many pictures of a neighbour as of any other subject."""


def subject_domains(world: World) -> dict[str, str]:
    """Every subject that can be drawn -> its domain: figures, objects or novel."""
    return {name: domain for domain in ("figures", "objects", "novel") for name in world.classes(domain)}


def phrase(world: World, subject: str) -> str:
    """The subject as a prompt names it: a figure by name, a thing with its article."""
    return subject if subject in world.classes("figures") else article(subject)


def plan(world: World, concept: str, target_size: int, size: int) -> list[tuple[str, str, str, bool]]:
    """(subject, style, group, extra) of every picture of an answer set; arguments and meaning are those of `answer_set`."""
    domains, styled, near = subject_domains(world), concept in world.styles, world.neighbours_of(concept)
    wanted = {"figures", "objects"} | ({domains[concept]} if not styled else set())
    subjects = [s for s, d in domains.items() if d in wanted and s != concept]
    looks = [s for s in world.styles if s != concept]
    if styled:
        rows = [(subjects[i * 7 % len(subjects)], concept, "target", False) for i in range(target_size)]
    else:
        rows = [(concept, looks[i % len(looks)], "target", False) for i in range(target_size)]
    for number, subject in enumerate(subjects):
        for k in range(size * (NEAR_TIMES if subject in near else 1)):
            style = looks[(number + k) % len(looks)]
            rows.append((subject, style, "neighbours" if (style if styled else subject) in near else "rest", k >= size))
    return rows


def answer_set(world: World, concept: str, split: str, target_size: int = 28, size: int = 2) -> pd.DataFrame:
    """The prompts of one concept's evaluation, one row a picture: prompt, seed, subject, style, domain, group, extra.

    concept: a subject or a style. split: "search" or "report"; their prompts and seeds are disjoint. target_size: pictures of
    the target, spread over all styles (for a style: over subjects). size: pictures of every other figure and object (and, for a
    novel concept, of every other novel one), each in another style; three times as many of the neighbours. group: target,
    neighbours or rest. extra: the neighbours' pictures beyond `size`, which count for the neighbours alone: in an average over classes
    each class has the same weight. Raises SettingError for another split, UnknownConceptError.
    """
    require_choice(split, TEMPLATES, "The split")
    world.kind(concept)
    domains, rows = subject_domains(world), []
    for number, (subject, style, group, extra) in enumerate(plan(world, concept, target_size, size)):
        template = IN_STYLE[style][TEMPLATES[split][number % len(TEMPLATES[split])]]
        rows.append({"prompt": template.format(phrase(world, subject)), "seed": FIRST_SEED[split] + number, "subject": subject,
                     "style": style, "domain": domains[subject], "group": group, "extra": extra})
    return pd.DataFrame(rows)


def join_answer_sets(sets: list[pd.DataFrame], concepts: list[str], near: set[str], column: str = "subject") -> pd.DataFrame:
    """Answer sets of one concept each as one: all targets, then the rest of the first set, and of the others what is not in it.

    near: the concepts' neighbours, which make the group neighbours. column: subject or style, whichever the concepts are. The rest shows none of the concepts.
    """
    targets = [table[table["group"] == "target"] for table in sets]
    others = [table[(table["group"] != "target") & ~table[column].isin(concepts)] for table in sets]
    # the neighbours' additional pictures of every concept, subjects that no set before has, and everything else as the first concept's set has it
    rest, known, tripled = [others[0]], set(sets[0]["subject"]), others[0].loc[others[0]["extra"], "subject"]
    for whole, table in zip(sets[1:], others[1:]):
        rest.append(table[~table["subject"].isin(known) | table["extra"] & ~table["subject"].isin(tripled)])
        known |= set(whole["subject"])
    rest = pd.concat(rest).assign(group=lambda t: np.where(t[column].isin(near), "neighbours", "rest"))
    return pd.concat([*targets, rest], ignore_index=True).drop_duplicates(["prompt", "seed"], ignore_index=True)


def require_one_domain(domains: dict[str, str]) -> str:
    """The one domain of the concepts (concept -> domain). Raises SettingError for several, or none."""
    found = set(domains.values())
    if len(found) != 1:
        raise SettingError(f"The concepts {', '.join(domains)} are of the domains {', '.join(sorted(found)) or 'none'}; one domain was expected, since UA, IRA "
                           "and CRA are told apart by it.")
    return found.pop()


def several_answer_set(world: World, concepts: list[str], split: str, target_size: int = 28, size: int = 2) -> pd.DataFrame:
    """The answer sets of several concepts of one domain as one: `target_size` pictures of each, and the rest once.

    Columns as of `answer_set`. The rest shows none of the concepts; neighbours are those of any of them. Raises SettingError for concepts of several
    domains, UnknownConceptError.
    """
    domain = require_one_domain({c: KINDS[world.kind(c)] for c in concepts})
    sets = [answer_set(world, c, split, target_size, size) for c in concepts]
    near = {name for c in concepts for name in world.neighbours_of(c)} - set(concepts)
    return join_answer_sets(sets, concepts, near, "style" if domain == "styles" else "subject")


def showcase(world: World, concept: str) -> pd.DataFrame:
    """Eight prompts to look at, with seeds that no split uses: columns prompt, seed, what.

    The target in two looks, with a person and with an object (an odd combination: its parts instead), its neighbour, others
    of all domains. what: "target", "combination", "part", "neighbour" or "other".
    """
    kind, near = world.kind(concept), world.neighbours_of(concept)[0]
    people = [p for p in world.people if p not in (concept, near, *world.neighbours_of(concept))]
    things = [o for o in world.objects if o not in (concept, near, *concept.replace("-shaped", "").split())]
    looks = [s for s in world.styles if s not in (concept, near)]
    say = lambda style, subject, way=0: IN_STYLE[style][way].format(phrase(world, subject))  # noqa: E731
    if kind == "style":
        rows = [(say(concept, people[0]), "target"), (say(concept, things[1], 1), "target"),
                (say(concept, people[1]).replace(people[1], f"{people[1]} with {people[2]}"), "combination"),
                (say(concept, people[3]).replace(people[3], f"{people[3]} with {article(things[0])}"), "combination"), (say(near, people[0]), "neighbour")]
    else:
        name = phrase(world, concept)
        if kind == "novel":
            pair = [(say(looks[0], part), "part") for part in concept.split("-shaped ")]
        elif kind in ("person", "character"):
            pair = [(f"{name} with {people[0]}", "combination"), (f"{name} with {article(things[0])}", "combination")]
        else:
            pair = [(f"{people[1]} with {name}", "combination"), (f"{people[0]} and {name}", "combination")]
        rows = [(say(looks[0], concept), "target"), (say(looks[2], concept, 1), "target"), *pair, (say(looks[0], near), "neighbour")]
    rows += [(say(looks[4], people[5]), "other"), (say(looks[0], things[2]), "other"), (say(looks[3], things[3]), "other")]
    return pd.DataFrame(rows, columns=["prompt", "what"]).assign(seed=lambda t: FIRST_SEED["show"] + np.arange(len(t)))


def counterparts(world: World, pairs: list[tuple[str, str]], split: str = "report") -> list[Record]:
    """For each subject and style a picture that the studio itself draws: the first, the second, ... where a pair occurs again."""
    seen: dict[tuple[str, str], int] = {}
    records = []
    for subject, style in pairs:
        k = seen[subject, style] = seen.get((subject, style), -1) + 1
        records.append(solo_records(split, subject, k + 1, [style], world)[k])
    return records


def drawn_counterparts(world: World, table: pd.DataFrame) -> np.ndarray:
    """For each row of an answer set a picture that the studio itself drew, report split: (N, 64, 64, 3) uint8, for the Frechet distance."""
    if table.empty:
        raise SettingError("The answer set is empty; at least one row was expected.")
    return drawn(counterparts(world, list(zip(table["subject"], table["style"]))))
