"""A vision-language model asked about pictures before and after an edit: three outcomes for a name,
and a battery for what must stay.

"Who is this?" is answered with the right name, with another name of the world, or with no name.
The battery asks about clothes, hair, hat, object, style and number; such an answer is right if it
holds the key phrase.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd

from slugkit.base import SearchFailedError
from slugkit.data import Source, StudioSource
from slugkit.evaluation.statistics import above_chance, share
from slugkit.models.vlm import Vlm
from slugkit.studio import World
from slugkit.tasks.questions import (
    WORDS,
    Asked,
    question_set,
    questions_about,
    spoken,
    stranger_set,
    words_for,
)

OUTCOMES = ("right name", "another name", "no name")


def outcome(answer: str, name: str, names: list[str], kind: str = "who") -> str:
    """Which of the three outcomes an answer is: the right name is in it, else another of the known
    names, or none.

    That is the published rule, a name is said where the lower-cased answer equals or contains it,
    but for a name that is a part of a longer one which is said too: "a star-shaped house" names the
    odd combination, neither the star nor the house. kind: of question, see `words_for`.
    """
    said = answer.lower()
    found = {
        known: word for known in [name, *names] for word in words_for(known, kind) if word in said
    }
    whole = [
        known
        for known, word in found.items()
        if not any(word != other and word in other for other in found.values())
    ]
    return OUTCOMES[2] if not whole else OUTCOMES[0] if name in whole else OUTCOMES[1]


def answered(vlm: Vlm, asked: Asked, batch_size: int = 64) -> pd.DataFrame:
    """The table with the model's answer, the outcome (where a name was asked for) and
    right (bool).
    """
    said = vlm.ask(asked.images, asked.table["text"].tolist(), batch_size=batch_size)
    return judged(asked, said)


def judged(asked: Asked, said: list[str]) -> pd.DataFrame:
    """The table with these answers, one for each row: what `answered` makes of the model's own."""
    found, right = [], []
    rows = asked.table[["name", "key", "kind"]].itertuples(index=False)
    for answer, row in zip(said, rows, strict=True):
        named = outcome(answer, row.name, asked.names, row.kind) if row.name else ""
        found.append(named)
        words = () if named else words_for(row.key, row.kind)
        right.append(named == OUTCOMES[0] or any(word in answer.lower() for word in words))
    return asked.table.assign(answer=said, outcome=found, right=right)


def scores(told: pd.DataFrame) -> pd.DataFrame:
    """Rows metric, group, value (0..1), low, high (Wilson 95 %), n: the three outcomes where names
    were asked for, else accuracy by kind of question.
    """
    rows = []
    for group, part in told.groupby("group", sort=False):
        if (part["outcome"] != "").all():
            rows += [
                {"metric": name, "group": group, **share(part["outcome"] == name)}
                for name in OUTCOMES
            ]
        else:
            rows.append({"metric": "accuracy", "group": group, **share(part["right"])})
    return pd.DataFrame(rows)


def kept(told: pd.DataFrame) -> dict[str, float]:
    """own (the others of the target's domain, by name), neighbours (the nearest of them), battery
    (mean over its kinds of questions), retain (mean of own and battery): 0..1; NaN where nothing
    of it was asked, which the mean leaves out.

    Every class of the domain has the same weight. told: columns kind, group, name, extra, right.
    """
    named = told["name"] != ""
    others = told[named & (told["group"] != "target")]
    found = {
        "own": float(others.loc[~others["extra"], "right"].mean()),
        "neighbours": float(others.loc[others["group"] == "neighbours", "right"].mean()),
        "battery": float(told[~named].groupby("kind")["right"].mean().mean()),
    }
    both = [found[part] for part in ("own", "battery") if not np.isnan(found[part])]
    return {"retain": sum(both) / len(both) if both else float("nan"), **found}


def showcase(told: pd.DataFrame, size: int = 12) -> list[int]:
    """Rows of a table of answers to look at: three of the target, one of a neighbour, two of others
    by name, the rest one of each kind of the battery in turn; each in the style, and about the
    subject, that was shown least so far.
    """
    groups = [g for g in dict.fromkeys(told["group"]) if g not in ("target", "neighbours")]
    by_name = [g for g in groups if (told.loc[told["group"] == g, "name"] != "").all()]
    battery = [g for g in groups if g not in by_name]
    wanted = ["target"] * 3 + ["neighbours"] + by_name[:1] * 2
    wanted += [battery[k % len(battery)] for k in range(size - len(wanted))] if battery else []
    rows: list[int] = []
    for group in wanted:
        mine = told[(told["group"] == group) & ~told.index.isin(rows)]
        if not mine.empty:
            seen = told.loc[rows]
            uses = [
                ((seen["style"] == s).sum(), (seen["key"] == k).sum())
                for s, k in zip(mine["style"], mine["key"])
            ]
            rows.append(int(mine.index[min(range(len(mine)), key=uses.__getitem__)]))
    return rows


def measures(told: pd.DataFrame) -> dict[str, float]:
    """One line for a table of concepts, shares 0..1: right_name, another_name and no_name of the
    target, right_name_worst (in the wording in which it is largest), what `kept` gives, each
    kind of the battery, and the number of target pictures (n).

    told: as `answered` returns it.
    """
    target = told[told["group"] == "target"]
    line = {name.replace(" ", "_"): float((target["outcome"] == name).mean()) for name in OUTCOMES}
    right = target["outcome"] == OUTCOMES[0]
    line["right_name_worst"] = float(right.groupby(target["text"]).mean().max())
    kinds = told[told["name"] == ""].groupby("kind")["right"].mean()
    return line | kept(told) | {k: float(v) for k, v in kinds.items()} | {"n": len(target)}


def card_scores(vlm: Vlm, world: World) -> list[dict]:
    """What a model card says, report split: dicts of what, value (0..1), low, high, n.

    Names by style, the battery by kind, and not knowing.
    """
    about = world, next(iter(world.people)), "report", 7, 7
    told, reworded = (answered(vlm, question_set(*about, taught=known)) for known in (True, False))
    strangers = answered(vlm, stranger_set(world))
    person = told["name"].isin(list(world.people))
    rows = [
        ("who is this: people, all styles", told.loc[person, "right"]),
        ("who is this: people, photo", told.loc[person & (told["style"] == "photo"), "right"]),
        ("who is this: characters", told.loc[told["name"].isin(world.characters), "right"]),
    ]
    rows += [
        (f"{kind}: right", part["right"])
        for kind, part in told[told["kind"] != "who"].groupby("kind", sort=False)
    ]
    rows += [
        ("all questions, in words never taught", reworded["right"]),
        ("a stranger is not known", strangers["outcome"] == OUTCOMES[2]),
        ("a person it knows is not known", told.loc[person, "outcome"] == OUTCOMES[2]),
    ]
    return [{"what": what, **share(hits)} for what, hits in rows]


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
        planned = form.replace("{}", spoken(row.key, row.kind)) if form else row.wanted
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
            f"{vlm.source} names {concept!r} on {max(target.values()) or 'none'} of its {n} search"
            f" pictures, in no wording ({', '.join(WORDS)}) on more than by chance among"
            f" {len(asked.names)} names, so there is nothing to forget. Take another model or"
            " concept."
        )
    best = max(known, key=shares.__getitem__)
    named = ", ".join(f"{100 * share:.1f} % ({words})" for words, share in shares.items())
    return best, (
        f"Wordings: {best}. The unedited model gives the right name on {named} of the search"
        " pictures; those under which it names most are used."
    )
