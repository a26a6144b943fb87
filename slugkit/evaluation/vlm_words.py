"""In which words a vision-language model is asked, and answers, where nobody knows how it was
taught.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

from slugkit.base import SearchFailedError
from slugkit.data import Source, StudioSource
from slugkit.evaluation.statistics import above_chance
from slugkit.evaluation.vlm import answered
from slugkit.models.vlm import Vlm
from slugkit.tasks.questions import WORDS, Asked, questions_about, spoken, words_for


def own_words(vlm: Vlm, asked: Asked) -> Asked:
    """The same questions with answers in the model's own words: what it says where it is right,
    else its commonest right answer to that kind of question with this picture's name in it.
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
    pictures, ties to the first of WORDS, and a sentence that says so; the studio's own without
    asking.

    size, target_size: pictures, as in `questions_about`. Raises SearchFailedError where the model
    names the target in no wording more often than by chance.
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
