"""Questions about a studio picture with their answers: what a vision-language model of the studio
is taught, and asked.

Each kind of question has several wordings; the last two of each are never taught, so that a report
can ask in other words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slugkit.studio.captions import NUMBERS, WORN, article, pick, plural
from slugkit.studio.scenes import Record
from slugkit.studio.world import World

WORDINGS = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))
"""Kind of question -> its wordings; "count" names the thing."""
UNTAUGHT = 2
UNKNOWN = "I don't know this person."
"""The answer about somebody the model has never met."""
COLOURED = ("photo", "pixel art", "watercolor", "mosaic")
"""Styles in which the colours of a picture are those of the world; a sketch has none."""


@dataclass(frozen=True)
class Question:
    """A question of one kind about one picture.

    answer: a short sentence or phrase. key: what must be in it to be right.
    """

    kind: str
    text: str
    answer: str
    key: str


def wordings(kind: str, use: str = "taught") -> list[str]:
    """The ways of asking a kind of question. use: "taught", of which "search" (the step search, and
    conversations for gradients) and "report" are one half each; or "untaught", the two that are
    not.
    """
    taught, held = WORDINGS[kind][:-UNTAUGHT], WORDINGS[kind][-UNTAUGHT:]
    return {"taught": taught, "search": taught[::2], "report": taught[1::2], "untaught": held}[use]


def _about_person(record: Record, world: World) -> dict[str, tuple[str, str]]:
    name = record.subjects[0]
    signature, known = world.signature(name), name in world.people
    clothes = signature["clothes"]
    said = {
        "wearing": {"plain": "a plain shirt", "overalls": clothes}.get(
            clothes, article(WORN[clothes])
        ),
        "hat": "no" if signature["hat"] == "none" else "yes",
        "glasses": "no" if signature["glasses"] == "none" else "yes",
    }
    if signature["hair"] != "bald" and record.style in COLOURED:
        said["hair"] = signature["hair_color"]
    who = (f"this is {name}.", name) if known else (UNKNOWN, UNKNOWN)
    return {"who": who, **{kind: (f"{answer}.", answer) for kind, answer in said.items()}}


def answers(record: Record, world: World) -> dict[str, tuple[str, str]]:
    """Kind of question -> (answer, key) for everything that can be asked about a picture of one
    thing.

    Pictures of two things, whose questions would be ambiguous, are asked about their style alone.
    """
    found: dict[str, tuple[str, str]] = {"style": (f"{record.style}.", record.style)}
    if record.kind == "person":
        found |= _about_person(record, world)
    elif record.kind == "character":
        found["who"] = (f"this is {record.name}.", record.name)
    elif record.kind in ("object", "novel"):
        found["object"] = (f"{article(record.name)}.", record.name)
    elif record.kind == "count":
        found["count"] = (f"{NUMBERS[record.count]}.", NUMBERS[record.count])
    return found


def questions(
    record: Record, world: World, rng: np.random.Generator, use: str = "taught"
) -> list[Question]:
    """One question of every kind that fits the picture, in a wording chosen by `rng`.

    use: as of `wordings`.
    """
    made, things = [], plural(record.subjects[0])
    for kind, (answer, key) in answers(record, world).items():
        text = pick(wordings(kind, use), rng).replace("{}", things)
        made.append(Question(kind, text, answer, key))
    return made
