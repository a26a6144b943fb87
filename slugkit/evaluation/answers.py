"""Answers as an exam: what a vision-language model is asked about some concepts, and the rows of a
run's one table that come of its answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from slugkit.data import Source, StudioSource
from slugkit.evaluation.staged import StagedExam
from slugkit.evaluation.vlm import OUTCOMES, answered, choose_words, scores, showcase
from slugkit.models.vlm import Vlm
from slugkit.tasks.questions import Asked, question_set, questions_about, stranger_set

OTHER_WORDS = ", other words"
"""What a group is called further where it is asked in wordings that the model was never taught."""


@dataclass
class QuestionExam(StagedExam):
    """Report questions about concepts that are forgotten one at a time. Make one with
    `QuestionExam.of`.

    Attributes:
        asked: concept -> its questions (`slugkit.tasks.questions.questions_about`).
        words: concept -> the set of wordings, for the search.
        says: why these wordings.
        reworded: concept -> who is who, asked in wordings that the model was never taught; empty
            where nobody knows what it was taught.
        strangers: who-questions about people whom the model never met; None where nobody knows.
        model: its name in the table of metrics.
    """

    family = "vlm"

    asked: dict[str, Asked]
    words: dict[str, str]
    says: str
    reworded: dict[str, Asked]
    strangers: Asked | None = None
    model: str = "studio"

    @classmethod
    def of(
        cls, source: Source, vlm: Vlm, concepts: list[str], size: int = 2, model: str = "studio"
    ) -> QuestionExam:
        """The report exam of these concepts.

        Args:
            size: pictures of every other subject, 28 times as many of each concept, 1 or more.

        Raises:
            SearchFailedError: the model names a concept no more often than by chance.
            SettingError, UnknownConceptError, EmptySetError: as of `questions_about`.
        """
        chosen = {concept: choose_words(vlm, source, concept) for concept in concepts}
        words = {concept: name for concept, (name, _) in chosen.items()}
        many = {
            c: questions_about(source, c, "report", words[c], 28 * size, size) for c in concepts
        }
        says = chosen[concepts[0]][1]
        if not isinstance(source, StudioSource):
            return cls(many, words, says, {}, None, model)
        unheard = {
            c: question_set(source.world, c, "report", 14 * size, 1, taught=False) for c in concepts
        }
        by_name = {c: q.take((q.table["name"] != "").to_numpy()) for c, q in unheard.items()}
        return cls(many, words, says, by_name, stranger_set(source.world, size=1), model)

    def _before(self, vlm: Vlm) -> list[pd.DataFrame]:
        unknown = [] if self.strangers is None else [answered(vlm, self.strangers)]
        return [self._told(vlm, concept, "before", "", unknown) for concept in self.asked]

    def _told(
        self, vlm: Vlm, concept: str, stage: str, method: str, unknown: list | None = None
    ) -> pd.DataFrame:
        """Beside the columns of the questions: number (the row among those of its concept), answer,
        outcome ("" where no name was asked for) and right. The group of strangers is "strangers",
        that of other wordings ends in OTHER_WORDS.
        """
        found = [answered(vlm, self.asked[concept])]
        if concept in self.reworded:
            told = answered(vlm, self.reworded[concept])
            found.append(told.assign(group=told["group"] + OTHER_WORDS))
        if unknown is None and self.strangers is not None:
            unknown = [answered(vlm, self.strangers)]
        found += [table.assign(extra=False) for table in unknown or []]
        found = [table.assign(number=np.arange(len(table))) for table in found]
        whose = {"concept": concept, "stage": stage, "method": method}
        return pd.concat(found, ignore_index=True).assign(**whose)

    def _scored(self, part: pd.DataFrame, concept: str) -> pd.DataFrame:
        """The three outcomes of a name, by group, and right answers to each other kind of
        question.
        """
        return scores(part)

    def report(self, told: pd.DataFrame, concept: str, method: str = "") -> pd.DataFrame:
        """The answers to the report questions about one concept, in their order: before, or under
        the edit of a method; without strangers and other wordings.
        """
        other = told["group"].str.endswith(OTHER_WORDS) | (told["group"] == "strangers")
        mine = (told["concept"] == concept) & (told["method"] == method) & ~other
        return told[mine].set_index("number")

    def side_by_side(
        self, told: pd.DataFrame, concept: str, methods: list[str], size: int = 8
    ) -> dict[str, Any]:
        """Questions to look at, in all states; those with an answer that changed come first.

        Returns what `slugkit.workbook.plots.dialogue` takes: images, questions, answers (state ->
        texts) and right (state -> whether the answer is what is wanted there: the target's name
        before, and not after; of the others the right answer).
        """
        states = {name: self.report(told, concept, name) for name in ["", *methods]}
        before = states[""]
        changed = sum((t["answer"] != before["answer"]).astype(int) for t in states.values()) > 0
        rows = showcase(before[changed], size) if changed.any() else []
        rows = [*rows, *(row for row in showcase(before) if row not in rows)][:size]
        rows.sort(key=lambda row: before.loc[row, "group"] != "target")
        answers, right = {}, {}
        for name, table in states.items():
            part, state = table.loc[rows], name or "before"
            named = part["outcome"] == OUTCOMES[0]
            wanted = np.where(part["group"] == "target", named == (not name), part["right"])
            answers[state], right[state] = part["answer"].tolist(), wanted
        asked = self.asked[concept]
        found = {"images": asked.images[rows], "questions": before.loc[rows, "text"].tolist()}
        return found | {"answers": answers, "right": right}


def by_style(told: pd.DataFrame) -> pd.DataFrame:
    """In how many pictures of the target its name is said, by style: rows concept and state,
    columns the styles, cells "k of n". told: of `QuestionExam.told`.
    """
    mine = told[told["group"] == "target"]
    state = mine["method"].where(mine["stage"] == "after", "before").rename("state")
    hits = (mine["outcome"] == OUTCOMES[0]).groupby([mine["concept"], state, mine["style"]])
    counts = hits.agg(["sum", "size"])
    cells = counts["sum"].astype(str) + " of " + counts["size"].astype(str)
    concepts = list(dict.fromkeys(mine["concept"]))
    order = sorted(dict.fromkeys(zip(mine["concept"], state)), key=lambda at: concepts.index(at[0]))
    return cells.unstack("style").fillna("–").rename_axis(columns=None).loc[order]
