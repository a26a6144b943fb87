"""Questions to a vision-language model about the pictures of any source: names of people, as the
paper asks for them, and what a picture shows.

The studio's questions are `slugkit.evaluate.vlm`'s own, answered in words that its model was
taught. Of other data nobody knows in which words a model
answers: it is heard out, and a name is said where the answer, lower case, equals or contains it,
which is the published rule.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from slugkit.base import SearchFailedError, SettingError, require_choice
from slugkit.data import Source, StudioSource
from slugkit.data.source import GROUP_NAMES
from slugkit.evaluate import vlm as studio
from slugkit.evaluate.statistics import above_chance
from slugkit.evaluate.vlm import ASKED, Asked, answered, words_for
from slugkit.models.vlm import Vlm
from slugkit.studio.questions import wordings


@dataclass(frozen=True)
class Words:
    """Wordings of each kind of question (who, object, class): of the search and of the report,
    disjoint.

    answers: kind -> an answer with {} for the name, for a model that has given none of its own.
    """

    search: dict[str, list[str]]
    report: dict[str, list[str]]
    answers: dict[str, str]


_TAUGHT = {
    kind: wordings("who" if kind == "class" else kind) for kind in ("who", "object", "class")
}
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
WORDS = {
    "paper": Words(_SEARCH, _REPORT, dict.fromkeys(_SEARCH, "{}")),
    "studio": Words(
        {kind: ways[0::2] for kind, ways in _TAUGHT.items()},
        {kind: ways[1::2] for kind, ways in _TAUGHT.items()},
        {"who": "this is {}.", "object": "a {}.", "class": "this is {}."},
    ),
}
"""Sets of wordings by name: "paper" asks as the paper does; "studio" as the studio's model was
taught.
"""
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
    """What is asked about one concept of any source; the columns are those of
    `slugkit.evaluate.vlm.question_set`.

    The studio: that function's questions, and `words` is not looked at. Any other source: the name
    on pictures of the target (`target_size` at most), of its neighbours and of the other classes of
    its domain, and the battery, one question about every picture of the other domains, right if the
    answer holds the class or one of its synonyms. All from `source.exam`, whose search and report
    pictures are disjoint, as are the wordings. split: "search" or "report". size: pictures of every
    other class; three times as many of the neighbours, whose extra ones count for these alone.
    all_kinds: False keeps 200 questions of the battery at most. Raises UnknownConceptError,
    SettingError, and EmptySetError for data without labels.
    """
    require_choice(split, ("search", "report"), "The split")
    if isinstance(source, StudioSource):
        return studio.question_set(source.world, concept, split, target_size, size, all_kinds)
    ways = getattr(WORDS[require_choice(words, WORDS, "The set of wordings")], split)
    exam = source.exam(concept, split)
    if exam.target_domain == "styles":
        raise SettingError(
            f"{concept!r} is a style; a person, an object or a class was expected, since no wording"
            " outside the studio asks for a style. Choose another concept."
        )
    table, own = exam.pairs.table, exam.target_domain
    place = table.groupby("concept").cumcount().to_numpy()
    named = (table["domain"] == own).to_numpy()
    mine = named & (table["concept"] == concept).to_numpy()
    near = named & table["concept"].isin(exam.neighbours).to_numpy()
    most = np.where(mine, target_size, np.where(near & ~mine, 3 * size, size))
    rows = np.flatnonzero(place < most)
    battery = rows[~named[rows]]
    if not all_kinds and len(battery) > BATTERY:
        battery = battery[np.unique(np.linspace(0, len(battery) - 1, BATTERY).astype(int))]
        rows = np.sort(np.concatenate([rows[named[rows]], battery]))
    kinds = table["domain"].map(KINDS).fillna("class").to_numpy()
    groups = np.where(mine, "target", np.where(near, "neighbours", GROUP_NAMES.get(own, own)))
    groups = np.where(named, groups, kinds)
    about = list(zip(kinds, table["concept"], place, table["style"], groups, named))
    found = [_row(ways, WORDS[words], *about[row]) for row in rows]
    asked_for = set(table["concept"].iloc[rows])
    # a single common word is no proof that somebody else was named
    names = [n for n in exam.classes(own) if n in asked_for or " " in n or own != "figures"]
    asked = pd.DataFrame(found).assign(extra=near[rows] & ~mine[rows] & (place[rows] >= size))
    return Asked(asked, exam.pairs.take(rows).images, names, split, verbatim=False)


def _row(
    ways: dict, words: Words, kind: str, name: str, number: int, style: str, group: str, named: bool
) -> dict:
    return {
        "kind": kind,
        "text": ways[kind][number % len(ways[kind])],
        "wanted": words.answers[kind].replace("{}", _spoken(name, kind)),
        "key": name,
        "name": name if named else "",
        "style": style,
        "group": group,
    }


def _spoken(name: str, kind: str) -> str:
    """A name as one says it: a person's as it is written, of a thing the first synonym."""
    return name if kind == "who" else words_for(name, kind)[0]


def talks_to_forget(
    source: Source, concept: str, size: int, seed: int = 0, words: str = "paper"
) -> Asked:
    """Conversations for the forget gradient: the concept's name on `size` pictures of its forget
    set, at most, never on search or report pictures.

    The studio: `slugkit.evaluate.vlm.training_set`. Any other source asks in the wordings of the
    search.
    """
    if isinstance(source, StudioSource):
        return studio.training_set(source, concept, size, seed)
    pairs, kind = source.forget_set(concept, size, seed), ASKED.get(source.kind(concept), "class")
    rows = [
        _row(WORDS[words].search, WORDS[words], kind, concept, number, style, "target", True)
        for number, style in enumerate(pairs.table["style"])
    ]
    return Asked(pd.DataFrame(rows), pairs.images, [], "train", verbatim=False)


def own_words(vlm: Vlm, asked: Asked) -> Asked:
    """The same questions with answers in the model's own words: what it says where it is right, and
    where it is not, its commonest right answer to that kind of question with this picture's name
    in it.

    Questions whose answers were taught (`Asked.verbatim`) stay as they are.
    """
    if asked.verbatim:
        return asked
    told, forms = answered(vlm, asked), {}
    right = told.loc[told["right"], ["answer", "key", "kind"]]
    for answer, key, kind in right.itertuples(index=False):
        word = next(w for w in words_for(key, kind) if w in answer.lower())
        start = answer.lower().index(word)
        forms.setdefault(kind, Counter())[answer[:start] + "{}" + answer[start + len(word) :]] += 1
    commonest = {kind: counted.most_common(1)[0][0] for kind, counted in forms.items()}
    wanted = []
    for row in told.itertuples():
        form = commonest.get(row.kind)
        planned = form.replace("{}", _spoken(row.key, row.kind)) if form else row.wanted
        wanted.append(row.answer if row.right else planned)
    return dataclasses.replace(asked, table=asked.table.assign(wanted=wanted))


def choose_words(
    vlm: Vlm, source: Source, concept: str, size: int = 2, target_size: int = 28
) -> tuple[str, str]:
    """The set of wordings under which the unedited model gives most right names on *search*
    pictures, ties to the first of WORDS, and a sentence that says so.

    The studio's wordings are its own, and nothing is asked. size, target_size: pictures, as in
    `questions_about`. Raises SearchFailedError where the model names the target in no wording more
    often than by chance, so that there is nothing to forget.
    """
    if isinstance(source, StudioSource):
        return "studio", "The wordings are those that the studio's model was taught."
    shares, target = {}, {}
    for words in WORDS:
        asked = questions_about(source, concept, "search", words, target_size, size)
        told = answered(vlm, asked.take((asked.table["name"] != "").to_numpy()))
        mine = told["group"] == "target"
        shares[words] = float(told["right"].mean())
        target[words] = int(told.loc[mine, "right"].sum())
    n = int(mine.sum())
    known = [words for words in WORDS if above_chance(target[words], n, len(asked.names))]
    if not known:
        raise SearchFailedError(
            f"{vlm.source} names {concept!r} on {max(target.values()) or 'none'} of its {n} "
            f"search pictures, in no wording ({', '.join(WORDS)}) on more than by chance among "
            f"{len(asked.names)} names, so there is nothing to forget. Take a model that knows the "
            "name, or a concept that the model knows."
        )
    best = max(known, key=shares.__getitem__)
    named = ", ".join(f"{100 * share:.1f} % ({words})" for words, share in shares.items())
    return (
        best,
        (
            f"Wordings: {best}. The unedited model gives the right name on {named} of the search"
            " pictures; those under which it names most are used."
        ),
    )
