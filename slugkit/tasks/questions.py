"""What a vision-language model is asked about the studio's pictures: names of people and things,
and a battery for what must stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from slugkit.base import require_choice
from slugkit.data import StudioSource, drawn
from slugkit.data.pictures import Pictures
from slugkit.data.source import choose
from slugkit.studio import Record, World, solo_records
from slugkit.studio.questions import Question, answers, questions
from slugkit.tasks.prompts import counterparts, plan


@dataclass
class Asked:
    """Questions about pictures, one row each.

    table: kind, text, wanted (the whole answer), key (what must be in it), name (who is in the
    picture, "" for things), style, group. images: (N, H, W, 3) uint8 or `Pictures`, one for each
    row. names: every name that the model may give.
    split: of the pictures. verbatim: whether the model was taught to answer in the words of
    `wanted`, so that a search looks for just these; where not, it hears an answer out and judges it
    as the report does.
    """

    table: pd.DataFrame
    images: np.ndarray | Pictures
    names: list[str]
    split: str = "report"
    verbatim: bool = True

    def take(self, rows) -> Asked:
        """The given rows (a mask or numbers)."""
        rows = np.arange(len(self.table))[np.asarray(rows)]
        images = self.images.take(rows) if isinstance(self.images, Pictures) else self.images[rows]
        return replace(self, table=self.table.iloc[rows].reset_index(drop=True), images=images)


DOMAINS = {"who": "people", "object": "objects", "style": "styles"}
"""Kind of question -> the group of those who are asked for and are neither target nor neighbour."""


ASKED = {
    "person": "who",
    "character": "who",
    "object": "object",
    "novel": "object",
    "style": "style",
}
"""Kind of a concept -> the kind of question whose answer names it."""


def _counted(split: str, world: World, concept: str, size: int) -> list[Record]:
    """Pictures of one to four of a thing, `size` of each number, over things and styles in turn,
    without the concept.
    """
    things, looks = (
        [o for o in world.objects if o != concept],
        [s for s in world.styles if s != concept],
    )
    return [
        Record(
            split,
            k,
            "count",
            (things[(7 * k + number) % len(things)],),
            looks[k % len(looks)],
            (world.colors[k % len(world.colors)],),
            number,
        )
        for number in (1, 2, 3, 4)
        for k in range(size)
    ]


def _row(question: Question, style: str, group: str, named: bool) -> dict:
    return {
        "kind": question.kind,
        "text": question.text,
        "wanted": question.answer,
        "key": question.key,
        "name": question.key if named else "",
        "style": style,
        "group": group,
    }


def question_set(
    world: World,
    concept: str,
    split: str,
    target_size: int = 56,
    size: int = 4,
    all_kinds: bool = True,
    taught: bool = True,
) -> Asked:
    """What is asked about one concept: its name on its own pictures, the names of the others in its
    domain, and the battery.

    concept: anybody or anything of the world; a person's name is asked for with "who is this?", an
    object's with "what object is this?", a style's with "which style is this drawn in?". split:
    "search" or "report". target_size: pictures of the target over all styles (of a
    style: over subjects). size: pictures of every other subject, each in another style; three times
    as many of the neighbours, whose `extra` ones are asked for the name alone and count for the
    neighbours alone. all_kinds: every question that fits a picture of another; else its name and
    one more, each kind in turn. taught: wordings that the model was trained on, or the two that it
    never saw. group: target, neighbours, the domain ("people", "objects", "styles") for the
    question that names the concept, and the kind for every other question. Raises
    UnknownConceptError, SettingError.
    """
    require_choice(split, ("search", "report"), "The split")
    asks, near = ASKED[world.kind(concept)], world.neighbours_of(concept)
    planned = plan(world, concept, target_size, size)
    records = counterparts(world, [row[:2] for row in planned], split) + _counted(
        split, world, concept, 3 * size
    )
    extra = np.array([row[3] for row in planned] + [False] * (len(records) - len(planned)))
    images, rows, which = drawn(records), [], []
    for number, record in enumerate(records):
        asked, mine = (
            questions(record, world, record.rng("ask"), split if taught else "untaught"),
            concept in (record.name, record.style),
        )
        named, battery = [q for q in asked if q.kind == asks], [q for q in asked if q.kind != asks]
        battery = (
            []
            if mine or extra[number]
            else battery
            if all_kinds or not battery
            else [battery[number % len(battery)]]
        )  # the battery is about the others
        for q in named:
            group = (
                "target" if q.key == concept else "neighbours" if q.key in near else DOMAINS[asks]
            )
            rows.append(_row(q, record.style, group, True))
        rows += [_row(q, record.style, q.kind, False) for q in battery]
        which += [number] * (len(named) + len(battery))
    strangers = [n for group in world.strangers.values() for n in group]
    names = {
        "who": [*world.classes("figures"), *strangers],
        "object": [*world.classes("novel"), *world.objects],
        "style": world.styles,
    }[asks]
    return Asked(pd.DataFrame(rows).assign(extra=extra[which]), images[which], names, split)


def training_set(source: StudioSource, concept: str, size: int, seed: int = 0) -> Asked:
    """Conversations about training pictures, for the forget gradient: the concept's name on `size`
    pictures of its forget set.
    """
    return _talks(
        source, source.forget_records(concept, size, seed), ASKED[source.kind(concept)], "target"
    )


def retain_talks(source: StudioSource, concept: str, size: int, seed: int = 0) -> Asked:
    """Conversations about training pictures that shall stay as they are: one question of any kind
    about each of `size` pictures of the retain set, and (group "names") the name on `size`
    pictures of the target's domain, every third of a neighbour where there are so many.
    """
    kind, near = ASKED[source.kind(concept)], source.neighbours(concept)
    broad = source.retain_records(concept, size, seed)
    named = [
        r
        for r in source.training
        if concept not in (r.name, *r.subjects, r.style) and kind in answers(r, source.world)
    ]
    close = [r for r in named if {r.name, r.style} & set(near)]
    chosen = [
        close[i] for i in choose(len(close), min(size // 3, len(close)), [seed, 25], "neighbours")
    ]
    chosen += [named[i] for i in choose(len(named), size - len(chosen), [seed, 26], "retain set")]
    parts = _talks(source, broad, "", "retain"), _talks(source, chosen, kind, "names")
    return Asked(
        pd.concat([p.table for p in parts], ignore_index=True),
        np.concatenate([p.images for p in parts]),
        [],
        "train",
    )


def _talks(source: StudioSource, records: list[Record], kind: str, group: str) -> Asked:
    """One question about each picture, of this kind or ("") of each kind in turn."""
    rows = []
    for number, record in enumerate(records):
        asked = [
            q
            for q in questions(record, source.world, record.rng("ask"), "search")
            if kind in ("", q.kind)
        ]
        rows.append(_row(asked[number % len(asked)], record.style, group, group == "target"))
    return Asked(pd.DataFrame(rows), drawn(records), [], "train")


def stranger_set(world: World, group: str = "test", size: int = 2, taught: bool = True) -> Asked:
    """Who-questions about ten people that the model never saw ("test"), or learned not to know
    ("train"); size: pictures in each style.
    """
    require_choice(group, world.strangers, "The group of strangers")
    records = [
        r
        for name in world.strangers[group]
        for r in solo_records("report", name, size, world=world)
    ]
    asked = [
        next(
            q
            for q in questions(r, world, r.rng("ask"), "report" if taught else "untaught")
            if q.kind == "who"
        )
        for r in records
    ]
    return Asked(
        pd.DataFrame(
            [_row(q, r.style, "strangers", True) | {"name": r.name} for q, r in zip(asked, records)]
        ),
        drawn(records),
        world.classes("figures"),
    )


def words_for(name: str, kind: str) -> list[str]:
    """What counts as saying a name, lower case: of a person the name; of a thing each synonym that
    a comma parts ("tench, Tinca tinca"), without the number that tells classes of one name apart
    ("sunglasses (n04356056)").
    """
    return (
        [name.lower()]
        if kind == "who"
        else [
            word.strip().lower()
            for word in re.sub(r" \(n\d{8}\)$", "", name).split(",")
            if word.strip()
        ]
    )
