"""What a vision-language model is asked about pictures, of the studio and of any other source, for
which a name is said where the answer, lower case, equals or contains it: the published rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.data import Source, StudioSource, drawn
from slugkit.data.pictures import Pictures
from slugkit.data.source import GROUP_NAMES
from slugkit.studio import Record, World, solo_records
from slugkit.studio.questions import questions, wordings
from slugkit.tasks.prompts import WORDS as PAPER
from slugkit.tasks.prompts import plan

DOMAINS = {"who": "people", "object": "objects", "style": "styles"}
"""Kind of question -> the group of those who are asked for and are neither target nor neighbour."""
ASKED = dict(person="who", character="who", object="object", novel="object", style="style")
"""Kind of a concept -> the kind of question whose answer names it."""
KINDS = {"figures": "who", "objects": "object"}
"""Domain of an exam -> kind of question; any other domain is asked for as a class."""
BATTERY = 200
"""Pictures of the other domains in a search, at most."""


@dataclass(frozen=True)
class Words:
    """Wordings of each kind of question (who, object, class), and answers with {} for the name."""

    search: dict[str, list[str]]
    report: dict[str, list[str]]
    answers: dict[str, str]


def _taught(split: str) -> dict[str, list[str]]:
    who = wordings("who", split)
    return {"who": who, "object": wordings("object", split), "class": who}


WORDS = {
    "paper": Words(**PAPER["questions"], answers={"who": "{}", "object": "{}", "class": "{}"}),
    "studio": Words(
        _taught("search"),
        _taught("report"),
        {"who": "this is {}.", "object": "a {}.", "class": "this is {}."},
    ),
}
"""Sets of wordings: as the paper asks, or as the studio's model was taught."""


@dataclass
class Asked:
    """Questions about pictures, one row each.

    table: kind, text, wanted (the whole answer), key (what must be in it), name (who is in the
    picture, "" for things), style, group. images: one for each row. names: every name that the
    model may give. verbatim: whether the model was taught the words of `wanted`.
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


def words_for(name: str, kind: str) -> list[str]:
    """What counts as saying a name, lower case: of a thing each synonym that a comma parts, without
    the number that tells classes of one name apart ("sunglasses (n04356056)").
    """
    if kind == "who":
        return [name.lower()]
    words = re.sub(r" \(n\d{8}\)$", "", name).split(",")
    return [word.strip().lower() for word in words if word.strip()]


def spoken(name: str, kind: str) -> str:
    """A name as one says it: a person's as it is written, of a thing the first synonym."""
    return name if kind == "who" else words_for(name, kind)[0]


def _counted(split: str, world: World, concept: str, size: int) -> list[Record]:
    """Pictures of one to four of a thing, `size` of each number, without the concept."""
    things = [o for o in world.objects if o != concept]
    looks = [s for s in world.styles if s != concept]
    records = []
    for number in (1, 2, 3, 4):
        for k in range(size):
            thing, look = things[(7 * k + number) % len(things)], looks[k % len(looks)]
            color = world.colors[k % len(world.colors)]
            records.append(Record(split, k, "count", (thing,), look, (color,), number))
    return records


def _planned(world: World, pairs: list[tuple[str, str]], split: str) -> list[Record]:
    """For each subject and style a picture that the studio draws: the first, the second, ..."""
    seen: dict[tuple[str, str], int] = {}
    records = []
    for subject, style in pairs:
        k = seen[subject, style] = seen.get((subject, style), -1) + 1
        records.append(solo_records(split, subject, k + 1, [style], world)[k])
    return records


def _names(world: World, kind: str) -> list[str]:
    """Every name that an answer to this kind of question may give."""
    if kind == "style":
        return world.styles
    if kind == "object":
        return [*world.classes("novel"), *world.objects]
    return [*world.classes("figures"), *(n for names in world.strangers.values() for n in names)]


def _about(record: Record, world: World, use: str) -> list[dict]:
    """A row for every question that fits a studio picture, in a group named after its kind."""
    return [
        dict(kind=q.kind, text=q.text, wanted=q.answer, key=q.key, name="", style=record.style)
        | {"group": q.kind}
        for q in questions(record, world, record.rng("ask"), use)
    ]


def question_set(
    world: World,
    concept: str,
    split: str,
    target_size: int = 56,
    size: int = 4,
    all_kinds: bool = True,
    taught: bool = True,
) -> Asked:
    """What is asked about one concept of the studio: its name, the names of others in its domain,
    and the battery.

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
    records = _planned(world, [row[:2] for row in planned], split)
    records += _counted(split, world, concept, 3 * size)
    extra = np.zeros(len(records), bool)
    extra[: len(planned)] = [row[-1] for row in planned]
    rows, which = [], []
    for number, record in enumerate(records):
        asked = _about(record, world, split if taught else "untaught")
        named = [row for row in asked if row["kind"] == asks]
        battery = [row for row in asked if row["kind"] != asks]
        if extra[number] or concept in (record.name, record.style):
            battery = []  # it is about the others
        elif battery and not all_kinds:
            battery = [battery[number % len(battery)]]
        for row in named:
            key = row["key"]
            other = "neighbours" if key in near else DOMAINS[asks]
            rows.append(row | {"name": key, "group": "target" if key == concept else other})
        rows += battery
        which += [number] * (len(named) + len(battery))
    table = pd.DataFrame(rows).assign(extra=extra[which])
    return Asked(table, drawn(records)[which], _names(world, asks), split)


def stranger_set(world: World, group: str = "test", size: int = 2, taught: bool = True) -> Asked:
    """Who-questions about ten people that the model never saw ("test"), or learned not to know
    ("train").
    """
    require_choice(group, world.strangers, "The group of strangers")
    people = world.strangers[group]
    records = [r for name in people for r in solo_records("report", name, size, world=world)]
    rows = []
    for record in records:
        asked = _about(record, world, "report" if taught else "untaught")
        who = next(row for row in asked if row["kind"] == "who")
        rows.append(who | {"name": record.name, "group": "strangers"})
    return Asked(pd.DataFrame(rows), drawn(records), world.classes("figures"))


def questions_about(
    source: Source,
    concept: str,
    split: str,
    words: str = "paper",
    target_size: int = 56,
    size: int = 4,
    all_kinds: bool = True,
) -> Asked:
    """What is asked about one concept of any source, as of `question_set`.

    Outside the studio the battery is one question about every picture of the other domains, right
    if the answer holds the class or one of its synonyms; all_kinds False keeps 200 of these at
    most. words: one of `WORDS`. Raises UnknownConceptError, SettingError, and EmptySetError for
    data without labels.
    """
    require_choice(split, ("search", "report"), "The split")
    if isinstance(source, StudioSource):
        return question_set(source.world, concept, split, target_size, size, all_kinds)
    require_choice(words, WORDS, "The set of wordings")
    exam = source.exam(concept, split)
    if exam.target_domain == "styles":
        raise SettingError(
            f"{concept!r} is a style; a person, an object or a class was expected, since no wording"
            " outside the studio asks for a style."
        )
    table, own = exam.pairs.table, exam.target_domain
    place = table.groupby("concept").cumcount().to_numpy()
    named = (table["domain"] == own).to_numpy()
    mine = named & (table["concept"] == concept).to_numpy()
    near = named & table["concept"].isin(exam.neighbours).to_numpy() & ~mine
    most = np.where(mine, target_size, np.where(near, 3 * size, size))
    rows = np.flatnonzero(place < most)
    battery = rows[~named[rows]]
    if not all_kinds and len(battery) > BATTERY:
        battery = battery[np.unique(np.linspace(0, len(battery) - 1, BATTERY).astype(int))]
        rows = np.sort(np.concatenate([rows[named[rows]], battery]))
    kinds = table["domain"].map(KINDS).fillna("class").to_numpy()
    groups = np.select([mine, near, named], ["target", "neighbours", GROUP_NAMES.get(own, own)], "")
    groups = np.where(named, groups, kinds)
    about = list(zip(table["concept"], kinds, place, table["style"], groups, named))
    found = [_row(WORDS[words], split, *about[row]) for row in rows]
    asked_for = set(table["concept"].iloc[rows])
    # a single common word is no proof that somebody else was named
    names = [n for n in exam.classes(own) if n in asked_for or " " in n or own != "figures"]
    asked = pd.DataFrame(found).assign(extra=near[rows] & (place[rows] >= size))
    return Asked(asked, exam.pairs.take(rows).images, names, split, verbatim=False)


def _row(
    words: Words,
    split: str,
    name: str,
    kind: str,
    number: int,
    style: str,
    group: str,
    named: bool = True,
) -> dict:
    ways, wanted = getattr(words, split)[kind], words.answers[kind]
    said = {"kind": kind, "text": ways[number % len(ways)]}
    said["wanted"] = wanted.replace("{}", spoken(name, kind))
    return said | {"key": name, "name": name if named else "", "style": style, "group": group}


def talks_to_forget(
    source: Source, concept: str, size: int, seed: int = 0, words: str = "paper"
) -> Asked:
    """Conversations for the forget gradient: the concept's name on pictures of its forget set."""
    kind = ASKED.get(source.kind(concept), "class")
    if isinstance(source, StudioSource):
        records = source.forget_records(concept, size, seed)
        asked = [row for r in records for row in _about(r, source.world, "search")]
        table = pd.DataFrame([row for row in asked if row["kind"] == kind])
        table = table.assign(name=table["key"], group="target")
        return Asked(table, drawn(records), [], "train")
    pairs = source.forget_set(concept, size, seed)
    rows = [
        _row(WORDS[words], "search", concept, kind, number, style, "target")
        for number, style in enumerate(pairs.table["style"])
    ]
    return Asked(pd.DataFrame(rows), pairs.images, [], "train", verbatim=False)
