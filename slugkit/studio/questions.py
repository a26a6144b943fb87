"""Questions about a studio picture with their answers: what a vision-language model of the studio
is taught, and asked.

Each kind of question has several wordings; the last two of each are never taught, so that a report
can ask in other words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slugkit.studio.captions import NUMBERS, article, phrases, plural
from slugkit.studio.scenes import Record
from slugkit.studio.world import World

WORDINGS = {
    kind: phrases(ways)
    for kind, ways in {
        "who": """who is this? | what is the name of this person? | who can you see here? | tell me
        who this is. | which person is in the picture? | name the person. | do you know
        who this is? | do you know this person? | name the person in the picture.""",
        "wearing": """what is the person wearing? | what clothes can you see? | describe the
        clothes. | which clothes can you see here? | what does the person have on? |
        what are these clothes? | tell me what the person wears. | what does this
        person wear? | which clothes are these?""",
        "hair": """what colour is the hair? | which hair colour is this? | tell me the colour of the
        hair. | what is the colour of the hair? | which colour has the hair? | what hair
        colour is in the picture? | name the hair colour. | the hair has which colour? |
        what hair colour can you see?""",
        "hat": """is there a hat? | does the person wear a hat? | can you see a hat? | do you see a
        hat in the picture? | has the person got a hat? | is the person wearing a hat? |
        tell me if there is a hat. | has the person a hat? | is a hat to be seen? | is
        this a person with a hat? | is a hat in the picture? | has this person a hat on?""",
        "glasses": """are there glasses? | does the person wear glasses? | can you see glasses? | do
        you see glasses in the picture? | has the person got glasses? | is the person
        wearing glasses? | tell me if there are glasses. | has the person glasses? |
        are glasses to be seen? | is this a person with glasses? | are glasses in the
        picture? | has this person glasses on?""",
        "object": """what object is this? | what is this thing? | what can you see here? | tell me
        which object this is. | which thing is this? | what object is in the picture? |
        name the thing. | tell me what thing this is. | tell me the name of the thing.
        | tell me what this is. | name the object in the picture.""",
        "style": """which style is this drawn in? | what is the style of the picture? | in which
        style is this? | name the style of this picture. | in what style is the picture
        drawn? | how is this drawn? | what style can you see here? | tell me the style.
        | how is this picture drawn?""",
        "count": """how many {} are there? | count the {}. | what is the number of {}? | tell me the
        number of {}. | how many {} are in the picture? | how many {} do you see? |
        count the {} in the picture. | how many {} can be seen? | how many {} can you
        count? | how many {} can you see? | tell me how many {} there are.""",
    }.items()
}
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


CLOTHES = {
    "plain": "a plain shirt",
    "striped": "a striped shirt",
    "collar": "a shirt with a collar",
    "overalls": "overalls",
    "tie": "a shirt and a tie",
}
"""What a person wears, without its colour."""


def _about_person(record: Record, world: World) -> dict[str, tuple[str, str]]:
    name = record.subjects[0]
    signature, known = world.signature(name), name in world.people
    worn = CLOTHES[signature["clothes"]]
    hat, glasses = ("no" if signature[trait] == "none" else "yes" for trait in ("hat", "glasses"))
    answers = {
        "who": (f"this is {name}.", name) if known else (UNKNOWN, UNKNOWN),
        "wearing": (f"{worn}.", worn),
        "hat": (f"{hat}.", hat),
        "glasses": (f"{glasses}.", glasses),
    }
    if signature["hair"] != "bald" and record.style in COLOURED:
        answers["hair"] = (f"{signature['hair_color']}.", signature["hair_color"])
    return answers


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
    made = []
    for kind, (answer, key) in answers(record, world).items():
        ways = wordings(kind, use)
        text = ways[int(rng.integers(len(ways)))]
        if kind == "count":
            text = text.format(plural(record.subjects[0]))
        made.append(Question(kind, text, answer, key))
    return made
