"""Questions to a vision-language model about the pictures of any source, as the paper asks.

Nobody knows in which words a model answers about data other than the studio's: a name is said where
the answer, lower case, equals or contains it, which is the published rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from slugkit.base import SettingError, require_choice
from slugkit.data import Source, StudioSource
from slugkit.data.source import GROUP_NAMES
from slugkit.studio.questions import wordings
from slugkit.tasks.questions import ASKED, Asked, question_set, training_set, words_for


@dataclass(frozen=True)
class Words:
    """Wordings of each kind of question (who, object, class), and answers with {} for the name."""

    search: dict[str, list[str]]
    report: dict[str, list[str]]
    answers: dict[str, str]


_SEARCH = {
    "who": [
        "Who is the person in this image?",
        "What is this person called?",
        "Can you name the person in this picture?",
    ],
    "object": ["What is the main object in this picture?", "What does this image show?"],
    "class": ["Who or what is in this image?", "Can you name who or what this image shows?"],
}
_REPORT = {
    "who": [
        "What is the name of the person in this image?",
        "What's the name of the person in this picture?",
        "Do you know who this person is?",
    ],
    "object": ["What is in this picture?", "What object can you see in this image?"],
    "class": [
        "What is the name of the person or thing in this image?",
        "Who or what can you see in this picture?",
    ],
}
_TAUGHT = {"who": wordings("who"), "object": wordings("object"), "class": wordings("who")}
WORDS = {
    "paper": Words(_SEARCH, _REPORT, dict.fromkeys(_SEARCH, "{}")),
    "studio": Words(
        {kind: ways[0::2] for kind, ways in _TAUGHT.items()},
        {kind: ways[1::2] for kind, ways in _TAUGHT.items()},
        {"who": "this is {}.", "object": "a {}.", "class": "this is {}."},
    ),
}
"""Sets of wordings: as the paper asks, or as the studio's model was taught."""
KINDS = {"figures": "who", "objects": "object"}
"""Domain of an exam -> kind of question; any other domain is asked for as a class."""
BATTERY = 200
"""Pictures of the other domains in a search, at most."""


def questions_about(
    source: Source,
    concept: str,
    split: str,
    words: str = "paper",
    target_size: int = 56,
    size: int = 4,
    all_kinds: bool = True,
) -> Asked:
    """What is asked about one concept of any source, as of `questions.question_set`.

    Beside the names of the concept's domain the battery: one question about every picture of the
    other domains, right if the answer holds the class or one of its synonyms. all_kinds: False
    keeps 200 of these at most. words: one of `WORDS`, not looked at for the studio. Raises
    UnknownConceptError, SettingError, and EmptySetError for data without labels.
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
    said["wanted"] = wanted.replace("{}", _spoken(name, kind))
    return said | {"key": name, "name": name if named else "", "style": style, "group": group}


def _spoken(name: str, kind: str) -> str:
    """A name as one says it: a person's as it is written, of a thing the first synonym."""
    return name if kind == "who" else words_for(name, kind)[0]


def talks_to_forget(
    source: Source, concept: str, size: int, seed: int = 0, words: str = "paper"
) -> Asked:
    """Conversations for the forget gradient: the concept's name on pictures of its forget set."""
    if isinstance(source, StudioSource):
        return training_set(source, concept, size, seed)
    pairs, kind = source.forget_set(concept, size, seed), ASKED.get(source.kind(concept), "class")
    rows = [
        _row(WORDS[words], "search", concept, kind, number, style, "target")
        for number, style in enumerate(pairs.table["style"])
    ]
    return Asked(pd.DataFrame(rows), pairs.images, [], "train", verbatim=False)
