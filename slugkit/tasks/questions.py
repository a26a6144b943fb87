"""What a vision-language model is asked about the studio's pictures."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from slugkit.base import require_choice
from slugkit.data import StudioSource, drawn
from slugkit.data.pictures import Pictures
from slugkit.studio import Record, World, solo_records
from slugkit.studio.questions import Question, questions
from slugkit.tasks.prompts import counterparts, plan

DOMAINS = {"who": "people", "object": "objects", "style": "styles"}
"""Kind of question -> the group of those who are asked for and are neither target nor neighbour."""
ASKED = dict(person="who", character="who", object="object", novel="object", style="style")
"""Kind of a concept -> the kind of question whose answer names it."""


@dataclass
class Asked:
    """Questions about pictures, one row each.

    table: kind, text, wanted (the whole answer), key (what must be in it), name (who is in the
    picture, "" for things), style, group. images: one for each row. names: every name that the
    model may give. verbatim: whether the model was taught the words of `wanted`, so that a search
    looks for just these.
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


def _row(question: Question, style: str, group: str, name: str = "") -> dict:
    said = {"kind": question.kind, "text": question.text, "wanted": question.answer}
    return said | {"key": question.key, "name": name, "style": style, "group": group}


def _counted(split: str, world: World, concept: str, size: int) -> list[Record]:
    """Pictures of one to four of a thing, `size` of each number, without the concept."""
    things = [o for o in world.objects if o != concept]
    looks = [s for s in world.styles if s != concept]
    records = []
    for number in (1, 2, 3, 4):
        for k in range(size):
            thing, color = (
                things[(7 * k + number) % len(things)],
                world.colors[k % len(world.colors)],
            )
            look = looks[k % len(looks)]
            records.append(Record(split, k, "count", (thing,), look, (color,), number))
    return records


def _names(world: World, kind: str) -> list[str]:
    """Every name that an answer to this kind of question may give."""
    if kind == "style":
        return world.styles
    if kind == "object":
        return [*world.classes("novel"), *world.objects]
    return [*world.classes("figures"), *(n for names in world.strangers.values() for n in names)]


def question_set(
    world: World,
    concept: str,
    split: str,
    target_size: int = 56,
    size: int = 4,
    all_kinds: bool = True,
    taught: bool = True,
) -> Asked:
    """What is asked about one concept: its name, the names of others in its domain, and the
    battery.

    target_size: pictures of the target over all styles (or subjects). size: pictures of every other
    subject; three times as many of the neighbours, whose `extra` ones are asked for the name alone.
    all_kinds: every question that fits a picture of another; else its name and one more. taught:
    wordings that the model was trained on, or the two that it never saw. group: target, neighbours,
    the domain for the question that names the concept, and the kind for every other. Raises
    UnknownConceptError, SettingError.
    """
    require_choice(split, ("search", "report"), "The split")
    asks, near = ASKED[world.kind(concept)], world.neighbours_of(concept)
    planned = plan(world, concept, target_size, size)
    records = counterparts(world, [row[:2] for row in planned], split)
    records += _counted(split, world, concept, 3 * size)
    extra = np.zeros(len(records), bool)
    extra[: len(planned)] = [row[-1] for row in planned]
    rows, which = [], []
    for number, record in enumerate(records):
        asked = questions(record, world, record.rng("ask"), split if taught else "untaught")
        named = [q for q in asked if q.kind == asks]
        battery = [q for q in asked if q.kind != asks]
        if extra[number] or concept in (record.name, record.style):
            battery = []  # it is about the others
        elif battery and not all_kinds:
            battery = [battery[number % len(battery)]]
        for q in named:
            other = "neighbours" if q.key in near else DOMAINS[asks]
            group = "target" if q.key == concept else other
            rows.append(_row(q, record.style, group, q.key))
        rows += [_row(q, record.style, q.kind) for q in battery]
        which += [number] * (len(named) + len(battery))
    table = pd.DataFrame(rows).assign(extra=extra[which])
    return Asked(table, drawn(records)[which], _names(world, asks), split)


def training_set(source: StudioSource, concept: str, size: int, seed: int = 0) -> Asked:
    """Conversations for the forget gradient: the name on `size` pictures of the forget set."""
    records = source.forget_records(concept, size, seed)
    return _talks(source, records, ASKED[source.kind(concept)], "target")


def _talks(source: StudioSource, records: list[Record], kind: str, group: str) -> Asked:
    """One question about each picture, of this kind or ("") of each kind in turn."""
    rows = []
    for number, record in enumerate(records):
        asked = questions(record, source.world, record.rng("ask"), "search")
        asked = [q for q in asked if kind in ("", q.kind)]
        one = asked[number % len(asked)]
        rows.append(_row(one, record.style, group, one.key if group == "target" else ""))
    return Asked(pd.DataFrame(rows), drawn(records), [], "train")


def stranger_set(world: World, group: str = "test", size: int = 2, taught: bool = True) -> Asked:
    """Who-questions about ten people that the model never saw ("test"), or learned not to know
    ("train").
    """
    require_choice(group, world.strangers, "The group of strangers")
    records, rows = [], []
    for name in world.strangers[group]:
        records += solo_records("report", name, size, world=world)
    for record in records:
        asked = questions(record, world, record.rng("ask"), "report" if taught else "untaught")
        who = next(q for q in asked if q.kind == "who")
        rows.append(_row(who, record.style, "strangers", record.name))
    return Asked(pd.DataFrame(rows), drawn(records), world.classes("figures"))


def words_for(name: str, kind: str) -> list[str]:
    """What counts as saying a name, lower case: of a thing each synonym that a comma parts, without
    the number that tells classes of one name apart ("sunglasses (n04356056)").
    """
    if kind == "who":
        return [name.lower()]
    words = re.sub(r" \(n\d{8}\)$", "", name).split(",")
    return [word.strip().lower() for word in words if word.strip()]
