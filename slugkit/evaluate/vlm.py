"""A vision-language model asked about pictures before and after an edit: three outcomes for a name, and a battery for what must stay.

"Who is this?" is answered with the right name, with another name of the world, or with no name (design, section 7). The battery
asks about clothes, hair, hat, object, style and number; an answer is right if it holds the key phrase.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.data import drawn
from slugkit.evaluate.statistics import share
from slugkit.models.vlm import Vlm
from slugkit.studio import Record, World, solo_records
from slugkit.studio.questions import Question, questions

OUTCOMES = ("right name", "another name", "no name")


@dataclass
class Asked:
    """Questions about pictures, one row each. table: kind, text, wanted (the whole answer), key (what must be in it), name (who is in the
    picture, "" for things), style, group. images: (N, H, W, 3) uint8, one for each row. names: every name that the model may give.
    split: of the pictures."""

    table: pd.DataFrame
    images: np.ndarray
    names: list[str]
    split: str = "report"

    def take(self, rows) -> Asked:
        """The given rows (a mask or numbers)."""
        rows = np.arange(len(self.table))[np.asarray(rows)]
        return Asked(self.table.iloc[rows].reset_index(drop=True), self.images[rows], self.names, self.split)


def _counted(split: str, world: World, size: int) -> list[Record]:
    """Pictures of one to four of a thing, `size` of each number, over things and styles in turn."""
    return [Record(split, k, "count", (world.objects[(7 * k + number) % len(world.objects)],), world.styles[k % len(world.styles)],
                   (world.colors[k % len(world.colors)],), number) for number in (1, 2, 3, 4) for k in range(size)]


def _row(question: Question, record: Record, group: str) -> dict:
    return {"kind": question.kind, "text": question.text, "wanted": question.answer, "key": question.key,
            "name": record.name if question.kind == "who" else "", "style": record.style, "group": group}


def _pictures(world: World, concept: str, split: str, target_per_style: int, size: int, looks: int) -> list[Record]:
    """Pictures of the target in every style, of everybody and everything else in `looks` styles in turn (0: all), and of several of a thing."""
    records = solo_records(split, concept, target_per_style, world=world)
    looks = looks or len(world.styles)
    for number, subject in enumerate(s for s in (*world.people, *world.characters, *world.objects) if s != concept):
        styles = [world.styles[(number + k) % len(world.styles)] for k in range(looks)]
        records += solo_records(split, subject, size, styles, world)
    return records + _counted(split, world, looks * size)


def question_set(world: World, concept: str, split: str, target_per_style: int = 6, size: int = 1, looks: int = 0, all_kinds: bool = True,
                 taught: bool = True) -> Asked:
    """What is asked about one concept: who it is on its own pictures, who everybody else is, and the battery about all other pictures.

    concept: a person or character. split: "search" or "report". target_per_style: pictures of the target in each style. size:
    pictures of everybody and everything else in each of `looks` styles (0: all). all_kinds: every question of the battery that fits
    a picture; else one, each kind in turn. taught: wordings that the model was trained on, or the two that it never saw.
    group: target, neighbours, people (for "who"), or the kind of question. Raises UnknownConceptError, SettingError.
    """
    require_choice(split, ("search", "report"), "The split")
    if world.kind(concept) not in ("person", "character"):
        raise SettingError(f"{concept!r} is a {world.kind(concept)}; a person or a character was expected: \"who is this?\" asks for a name.")
    near, records = world.neighbours_of(concept), _pictures(world, concept, split, target_per_style, size, looks)
    images, rows, which = drawn(records), [], []
    for number, record in enumerate(records):
        asked = questions(record, world, record.rng("ask"), taught)
        who, battery = [q for q in asked if q.kind == "who"], [q for q in asked if q.kind != "who"]
        mine = record.name == concept and bool(who)
        battery = [] if mine else battery if all_kinds else [battery[number % len(battery)]]  # the battery is about the others
        group = "target" if mine else "neighbours" if record.name in near else "people"
        rows += [_row(q, record, group) for q in who] + [_row(q, record, q.kind) for q in battery]
        which += [number] * (len(who) + len(battery))
    names = [*world.classes("figures"), *(n for group in world.strangers.values() for n in group)]
    return Asked(pd.DataFrame(rows), images[which], names, split)


def stranger_set(world: World, group: str = "test", size: int = 2, taught: bool = True) -> Asked:
    """Who-questions about ten people that the model never saw ("test"), or learned not to know ("train"); size: pictures in each style."""
    require_choice(group, world.strangers, "The group of strangers")
    records = [r for name in world.strangers[group] for r in solo_records("report", name, size, world=world)]
    asked = [next(q for q in questions(r, world, r.rng("ask"), taught) if q.kind == "who") for r in records]
    return Asked(pd.DataFrame([_row(q, r, "strangers") for q, r in zip(asked, records)]), drawn(records), world.classes("figures"))


def outcome(answer: str, name: str, names: list[str]) -> str:
    """Which of the three outcomes an answer to "who is this?" is; upper and lower case are the same."""
    said = answer.lower()
    if name.lower() in said:
        return OUTCOMES[0]
    return OUTCOMES[1] if any(other.lower() in said for other in names) else OUTCOMES[2]


def answered(vlm: Vlm, asked: Asked, batch_size: int = 64) -> pd.DataFrame:
    """The table with the model's answer, the outcome (for names) and right (bool)."""
    said = vlm.ask(asked.images, asked.table["text"].tolist(), batch_size=batch_size)
    found = [outcome(a, n, asked.names) if k == "who" else "" for a, n, k in zip(said, asked.table["name"], asked.table["kind"])]
    right = [o == OUTCOMES[0] if k == "who" else key.lower() in a.lower() for a, o, k, key in zip(said, found, asked.table["kind"], asked.table["key"])]
    return asked.table.assign(answer=said, outcome=found, right=right)


def scores(told: pd.DataFrame) -> pd.DataFrame:
    """Rows metric, group, value (0..1), low, high (Wilson 95 %), n: the three outcomes of every group of names, and accuracy by kind of question."""
    rows = []
    for group, part in told.groupby("group", sort=False):
        if (part["kind"] == "who").all():
            rows += [{"metric": name, "group": group, **share(part["outcome"] == name)} for name in OUTCOMES]
        else:
            rows.append({"metric": "accuracy", "group": group, **share(part["right"])})
    return pd.DataFrame(rows)


def card_scores(vlm: Vlm, world: World) -> list[dict]:
    """What a model card says, report split: dicts of what, value (0..1), low, high, n. Names by style, the battery by kind, and not knowing."""
    told = answered(vlm, question_set(world, next(iter(world.people)), "report", 1))
    reworded = answered(vlm, question_set(world, next(iter(world.people)), "report", 1, taught=False))
    strangers = answered(vlm, stranger_set(world))
    person = told["name"].isin(list(world.people))
    rows = [("who is this: people, all styles", told.loc[person, "right"]), ("who is this: people, photo", told.loc[person & (told["style"] == "photo"), "right"]),
            ("who is this: characters", told.loc[told["name"].isin(world.characters), "right"])]
    rows += [(f"{kind}: right", part["right"]) for kind, part in told[told["kind"] != "who"].groupby("kind", sort=False)]
    rows += [("all questions, in words never taught", reworded["right"]), ("a stranger is not known", strangers["outcome"] == OUTCOMES[2]),
             ("a person it knows is not known", told.loc[person, "outcome"] == OUTCOMES[2])]
    return [{"what": what, **share(hits)} for what, hits in rows]
