"""Questions to a vision-language model about the pictures of any source: names of people, as the paper asks for them, and what a picture shows.

The studio's questions are `slugkit.evaluate.vlm`'s own, answered in words that its model was taught. Of other data nobody knows in which words a model
answers: it is heard out, and a name is said where the answer, lower case, equals or contains it, which is the published rule.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from slugkit.base import SearchFailedError, SettingError, require_choice
from slugkit.data import Pairs, Source, StudioSource, names_concept
from slugkit.data.source import GROUP_NAMES, choose
from slugkit.evaluate import vlm as studio
from slugkit.evaluate.statistics import above_chance
from slugkit.evaluate.vlm import ASKED, Asked, answered, judged, words_for
from slugkit.models.vlm import Vlm
from slugkit.studio.questions import wordings


@dataclass(frozen=True)
class Words:
    """Wordings of each kind of question (who, object, class): of the search and of the report, disjoint. answers: kind -> an answer with {} for the name, for
    a model that has given none of its own."""

    search: dict[str, list[str]]
    report: dict[str, list[str]]
    answers: dict[str, str]


_TAUGHT = {kind: wordings("who" if kind == "class" else kind) for kind in ("who", "object", "class")}
WORDS = {
    "paper": Words({"who": ["Who is the person in this image?", "What is this person called?", "Can you name the person in this picture?"],
                    "object": ["What is the main object in this picture?", "What does this image show?"],
                    "class": ["Who or what is in this image?", "Can you name who or what this image shows?"]},
                   {"who": ["What is the name of the person in this image?", "What's the name of the person in this picture?",
                            "Do you know who this person is?"],
                    "object": ["What is in this picture?", "What object can you see in this image?"],
                    "class": ["What is the name of the person or thing in this image?", "Who or what can you see in this picture?"]},
                   {"who": "{}", "object": "{}", "class": "{}"}),
    "studio": Words({kind: ways[0::2] for kind, ways in _TAUGHT.items()}, {kind: ways[1::2] for kind, ways in _TAUGHT.items()},
                    {"who": "this is {}.", "object": "a {}.", "class": "this is {}."}),
}
"""Sets of wordings by name: "paper" asks as the paper does; "studio" as the studio's model was taught."""
DESCRIBE = "Describe this picture."
"""What is asked about a picture that has a caption only; the caption is the answer."""
KINDS = {"figures": "who", "objects": "object"}
"""Domain of an exam -> kind of question; any other domain is asked for as a class."""
BATTERY = 200
"""Pictures of the other domains in a search, at most."""
POOL = 20
"""How many times the wanted number of retain pictures is looked through for captions that name somebody."""


def questions_about(source: Source, concept: str, split: str, words: str = "paper", target_size: int = 56, size: int = 4, all_kinds: bool = True) -> Asked:
    """What is asked about one concept of any source; the columns are those of `slugkit.evaluate.vlm.question_set`.

    The studio: that function's questions, and `words` is not looked at. Any other source: the name on pictures of the target (`target_size` at most), of its
    neighbours and of the other classes of its domain, and the battery, one question about every picture of the other domains, right if the answer holds
    the class or one of its synonyms. All from `source.exam`, whose search and report pictures are disjoint, as are the wordings. split: "search" or
    "report". size: pictures of every other class; three times as many of the neighbours, whose extra ones count for these alone. all_kinds: False keeps 200
    questions of the battery at most. Raises UnknownConceptError, SettingError, and EmptySetError for data without labels.
    """
    require_choice(split, ("search", "report"), "The split")
    if isinstance(source, StudioSource):
        return studio.question_set(source.world, concept, split, target_size, size, all_kinds)
    ways = getattr(WORDS[require_choice(words, WORDS, "The set of wordings")], split)
    exam = source.exam(concept, split)
    if exam.target_domain == "styles":
        raise SettingError(f"{concept!r} is a style; a person, an object or a class was expected, since no wording outside the studio asks for a style. "
                           "Choose another concept.")
    table, own = exam.pairs.table, exam.target_domain
    place, named = table.groupby("concept").cumcount().to_numpy(), (table["domain"] == own).to_numpy()
    mine, near = named & (table["concept"] == concept).to_numpy(), named & table["concept"].isin(exam.neighbours).to_numpy()
    rows = np.flatnonzero(place < np.where(mine, target_size, np.where(near & ~mine, 3 * size, size)))
    if not all_kinds:
        battery = rows[~named[rows]]
        thinned = battery[np.unique(np.linspace(0, len(battery) - 1, BATTERY).astype(int))] if len(battery) > BATTERY else battery
        rows = np.sort(np.concatenate([rows[named[rows]], thinned]))
    groups = np.where(mine, "target", np.where(near, "neighbours", GROUP_NAMES.get(own, own)))
    found = [_row(KINDS.get(domain, "class"), ways, WORDS[words], name, number, style, groups[row] if named[row] else KINDS.get(domain, "class"), named[row])
             for row, domain, name, number, style in zip(rows, table["domain"].iloc[rows], table["concept"].iloc[rows], place[rows], table["style"].iloc[rows])]
    asked_for = set(table["concept"].iloc[rows])
    names = [n for n in exam.classes(own) if n in asked_for or " " in n or own != "figures"]  # a single common word is no proof that somebody else was named
    asked = pd.DataFrame(found).assign(extra=near[rows] & ~mine[rows] & (place[rows] >= size))
    return Asked(asked, exam.pairs.take(rows).images, names, split, verbatim=False)


def _row(kind: str, ways: dict[str, list[str]], words: Words, name: str, number: int, style: str, group: str, named: bool) -> dict:
    return {"kind": kind, "text": ways[kind][number % len(ways[kind])], "wanted": words.answers[kind].replace("{}", _spoken(name, kind)), "key": name,
            "name": name if named else "", "style": style, "group": group}


def _spoken(name: str, kind: str) -> str:
    """A name as one says it: a person's as it is written, of a thing the first synonym."""
    return name if kind == "who" else words_for(name, kind)[0]


def talks_to_forget(source: Source, concept: str, size: int, seed: int = 0, words: str = "paper") -> Asked:
    """Conversations for the forget gradient: the concept's name on `size` pictures of its forget set, at most, never on search or report pictures.

    The studio: `slugkit.evaluate.vlm.training_set`. Any other source asks in the wordings of the search.
    """
    if isinstance(source, StudioSource):
        return studio.training_set(source, concept, size, seed)
    pairs, kind = source.forget_set(concept, size, seed), ASKED.get(source.kind(concept), "class")
    rows = [_row(kind, WORDS[words].search, WORDS[words], concept, number, style, "target", True) for number, style in enumerate(pairs.table["style"])]
    return Asked(pd.DataFrame(rows), pairs.images, [], "train", verbatim=False)


def talks_to_keep(source: Source, concept: str, size: int, seed: int = 0, words: str = "paper") -> Asked:
    """Conversations that shall stay as they are, about training pictures of the retain set: `size` of any kind (group "retain"), and `size` at most that ask
    for the name of another of the target's domain (group "names", every third a neighbour where there are so many).

    The studio: `slugkit.evaluate.vlm.retain_talks`. Any other source: a picture with a class is asked for it, one with a caption only is to be described, and
    its caption is the answer. The names are asked of pictures that carry the class, or whose caption names it and no other; there may be none.
    """
    if isinstance(source, StudioSource):
        return studio.retain_talks(source, concept, size, seed)
    exam, pool = source.exam(concept, "search"), source.retain_set(concept, POOL * size, seed)
    own, kind = exam.target_domain, KINDS.get(exam.target_domain, "class")
    others = sorted(set(exam.pairs.table["concept"][exam.pairs.table["domain"] == own]) - {concept})
    shown = _shown(pool, others, kind)
    near, known = (np.array([row for row, name in shown.items() if name in group], int) for group in (exam.neighbours, others))
    chosen = near[choose(len(near), size // 3, [seed, 25], "neighbours")] if len(near) else near
    rest = np.setdiff1d(known, chosen)
    chosen = np.concatenate([chosen, rest[choose(len(rest), size - len(chosen), [seed, 26], "retain set")]]) if len(rest) else chosen
    broad = choose(len(pool), size, [seed, 27], "retain set")
    said, rows = WORDS[words], []
    for number, (name, domain, caption, style) in enumerate(pool.table.iloc[broad][["concept", "domain", "caption", "style"]].itertuples(index=False)):
        rows.append(_row(KINDS.get(domain, "class"), said.search, said, name, number, style, "retain", False) if name else
                    {"kind": "describe", "text": DESCRIBE, "wanted": caption, "key": caption, "name": "", "style": style, "group": "retain"})
    rows += [_row(kind, said.search, said, shown[row], number, pool.table["style"].iloc[row], "names", False) for number, row in enumerate(chosen.tolist())]
    return Asked(pd.DataFrame(rows), pool.take(np.concatenate([broad, chosen])).images, [], "train", verbatim=False)


def _shown(pool: Pairs, names: list[str], kind: str) -> dict[int, str]:
    """Row -> whom or what of `names` a picture shows: its class, or the one name that its caption holds as whole words."""
    found, words = {}, {name: words_for(name, kind) for name in names}
    for row, (label, caption) in enumerate(zip(pool.table["concept"], pool.table["caption"])):
        low = caption.lower()
        said = [name for name in names if any(word in low and names_concept(caption, word) for word in words[name])] if not label else [label]
        if len(said) == 1 and said[0] in words:
            found[row] = said[0]
    return found


def own_words(vlm: Vlm, asked: Asked) -> Asked:
    """The same questions with answers in the model's own words: what it says where it is right, and where it is not, its commonest right answer to that kind of
    question with this picture's name in it. Descriptions stay as they are, and so do questions whose answers were taught (`Asked.verbatim`)."""
    open_end = (asked.table["kind"] != "describe").to_numpy()
    if asked.verbatim or not open_end.any():
        return asked
    part = asked.take(open_end)
    told, forms = answered(vlm, part), {}
    for answer, key, kind in told.loc[told["right"], ["answer", "key", "kind"]].itertuples(index=False):
        word = next(w for w in words_for(key, kind) if w in answer.lower())
        start = answer.lower().index(word)
        forms.setdefault(kind, Counter())[answer[:start] + "{}" + answer[start + len(word):]] += 1
    commonest = {kind: counted.most_common(1)[0][0] for kind, counted in forms.items()}
    wanted = []
    for answer, right, key, kind, planned in told[["answer", "right", "key", "kind", "wanted"]].itertuples(index=False):
        form = commonest[kind].replace("{}", _spoken(key, kind)) if kind in commonest else planned
        wanted.append(answer if right else form)
    table = asked.table.copy()
    table.loc[open_end, "wanted"] = wanted
    return dataclasses.replace(asked, table=table)


def choose_words(vlm: Vlm, source: Source, concept: str, size: int = 2, target_size: int = 28) -> tuple[str, str]:
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
        shares[words], target[words] = float(told["right"].mean()), int(told.loc[mine, "right"].sum())
    n = int(mine.sum())
    known = [words for words in WORDS if above_chance(target[words], n, len(asked.names))]
    if not known:
        raise SearchFailedError(
            f"{vlm.source} names {concept!r} on {max(target.values()) or 'none'} of its {n} "
            f"search pictures, in no wording ({', '.join(WORDS)}) on more than "
            f"by chance among {len(asked.names)} names, so there is "
            "nothing to forget. Take a model that knows the name, or a "
            "concept that the model "
            "knows."
        )
    best = max(known, key=shares.__getitem__)
    named = ", ".join(f"{100 * share:.1f} % ({words})" for words, share in shares.items())
    return best, f"Wordings: {best}. The unedited model gives the right name on {named} of the search pictures; those under which it names most are used."
