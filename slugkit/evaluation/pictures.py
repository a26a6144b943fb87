"""Pictures as an exam: what a pipeline is asked to draw about some concepts, what a judge says of
it, and the rows of a run's one table that come of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from slugkit.data import Source
from slugkit.evaluation.clip_judge import ClipJudge, judge_of
from slugkit.evaluation.diffusion import (
    drawn_prompts,
    fit_rows,
    has_styles,
    judged,
    require_askable,
    text_image_cosines,
    ua_ira_cra,
)
from slugkit.evaluation.staged import StagedExam
from slugkit.evaluation.unlearncanvas import CanvasJudge
from slugkit.models import Clip
from slugkit.models.classifier import Classifier
from slugkit.models.diffusion import GUIDANCE, STEPS, draw, require_pictures
from slugkit.tasks import answer_set_of, domain_of, showcase_of
from slugkit.tasks.prompts import join_answer_sets, some_others

KEYS = ["prompt", "seed"]
SAID = ["called", "called_style", "right_subject", "right_style", "artifact", "fit"]
"""What is known of a picture once it is drawn."""


def _shorter(table: pd.DataFrame, others: int) -> pd.DataFrame:
    """An answer set with `some_others`, and all pictures of neighbours."""
    kept = some_others(table, others).merge(table[KEYS].reset_index(), on=KEYS)["index"]
    near = table["group"] == "neighbours"
    return table[near | table.index.isin(kept)].reset_index(drop=True)


@dataclass
class PictureExam(StagedExam):
    """Prompts and seeds about concepts that are forgotten one at a time, and the judge of what is
    drawn. Make one with `PictureExam.of`.

    Attributes:
        domains: concept -> its domain, such as "figures" or "styles".
        tables: concept -> its answer set (`slugkit.tasks.prompts.answer_set`).
        shown: concept -> prompts to look at, with seeds of their own.
        judge: names subject and style of a picture.
        clip: the unedited CLIP, for how well a picture fits its prompt.
        sampling: denoising steps and guidance.
        model: the pipeline's name in the table of metrics.
    """

    family = "diffusion"

    domains: dict[str, str]
    tables: dict[str, pd.DataFrame]
    shown: dict[str, pd.DataFrame]
    judge: Classifier | CanvasJudge | ClipJudge
    clip: Clip
    sampling: tuple[int, float] = (STEPS, GUIDANCE)
    model: str = "studio"

    @classmethod
    def of(
        cls,
        source: Source,
        clip: Clip,
        concepts: list[str],
        size: int = 1,
        judge_model: str = "",
        tier: str = "smoke",
        others: int = 0,
        **more: Any,
    ) -> PictureExam:
        """The report exam of these concepts.

        Args:
            size: pictures of every other subject, 28 times as many of each concept, 1 or more.
            judge_model, tier: as of `judge_of` and `answer_set_of`.
            others: pictures that do not show the target, evenly over the domains, for a shorter
                exam that keeps those of its neighbours; 0 takes all.
            more: sampling and model.

        Raises what `answer_set_of` and `judge_of` raise.
        """
        domains = {concept: domain_of(source, concept) for concept in concepts}
        tables = {c: answer_set_of(source, c, "report", 28 * size, size, tier) for c in concepts}
        if len(concepts) > 1 and len(set(domains.values())) == 1:
            tables = _shared(source, tables, "style" if "styles" in domains.values() else "subject")
        tables = {concept: _shorter(table, others) for concept, table in tables.items()}
        judge = judge_of(source, clip, pd.concat(tables.values()), judge_model)
        shown = {concept: showcase_of(source, concept) for concept in concepts}
        return cls(domains, tables, shown, judge, clip, **more)

    def own(self, concept: str) -> str:
        """What of a picture the concept is: its "subject" or its "style"."""
        return "style" if self.domains[concept] == "styles" else "subject"

    def _before(self, pipe: Any) -> list[pd.DataFrame]:
        return [self._asked(pipe, list(self.tables), "before", "")]

    def _told(self, pipe: Any, concept: str, stage: str, method: str) -> pd.DataFrame:
        return self._asked(pipe, [concept], stage, method)

    def _asked(self, pipe: Any, concepts: list[str], stage: str, method: str) -> pd.DataFrame:
        """The exam drawn and judged: beside the columns of the answer set called, called_style,
        right_subject, right_style, artifact, and fit, the cosine of picture and prompt.
        """
        asked = [self.tables[c].assign(concept=c, stage=stage, method=method) for c in concepts]
        asked = pd.concat(asked, ignore_index=True)
        once = asked.drop_duplicates(KEYS, ignore_index=True)
        require_askable(pipe, self.judge, once)
        images = drawn_prompts(pipe, once, *self.sampling)
        if stage == "before":
            require_pictures(images, type(pipe).__name__)
        said = judged(self.judge, once, images)
        said["fit"] = text_image_cosines(self.clip, once["prompt"].tolist(), images)
        return asked.merge(said[KEYS + SAID], on=KEYS, how="left", validate="many_to_one")

    def answers(self, told: pd.DataFrame) -> pd.DataFrame:
        """What `told` says question by question: of every picture its subject is asked for, and its
        style where the data have styles.

        Returns concept, stage, method, domain (of the question), group, true and answer. Pictures
        of the target are asked for the target alone; `extra` pictures of neighbours are left out.
        """
        told = told[~told["extra"]]
        things = told.assign(true=told["subject"], answer=told["called"])
        looks = told.assign(true=told["style"], answer=told["called_style"], domain="styles")
        both = pd.concat([things, looks] if has_styles(told) else [things], ignore_index=True)
        mine = both["domain"] == both["concept"].map(self.domains)
        columns = ["concept", "stage", "method", "domain", "group", "true", "answer"]
        return both.loc[mine | (both["group"] != "target"), columns].reset_index(drop=True)

    def _scored(self, part: pd.DataFrame, concept: str) -> pd.DataFrame:
        """UA, IRA, CRA, the artifact rate and the fit of pictures and prompts."""
        return pd.concat([ua_ira_cra(part, self.domains[concept]), fit_rows(part)])

    def draw(self, pipe: Any, table: pd.DataFrame) -> np.ndarray:
        """The pictures of a table with the columns prompt and seed, (N, H, W, 3) uint8."""
        return draw(pipe, table["prompt"].tolist(), table["seed"].tolist(), *self.sampling)

    def side_by_side(self, pipe: Any, results: list[Any]) -> tuple[dict, dict]:
        """The prompts to look at of one concept, drawn before and under each result's edits.

        Returns (rows, said): state -> (N, H, W, 3) uint8, and state -> N answers of the judge, ""
        for a picture of several things; the states are "before" and the methods.
        """
        concept = results[0].concept
        shown, rows = self.shown[concept], {}
        rows["before"] = self.draw(pipe, shown)
        for result in results:
            with result.applied(pipe) as edited:
                rows[result.method] = self.draw(edited, shown)
        return rows, {state: self.named(concept, made) for state, made in rows.items()}

    def named(self, concept: str, images: np.ndarray) -> list[str]:
        """What the judge calls the pictures of `shown`; "" for a picture of several things."""
        called = self.judge.name(images)[self.own(concept)]
        single = self.shown[concept]["what"] != "combination"
        return called.where(single, "").tolist()


def _shared(source: Source, tables: dict[str, pd.DataFrame], column: str) -> dict:
    """Answer sets of concepts of one domain with the same others: each keeps its own pictures and
    those that show none of the concepts, its neighbours marked.
    """
    joined, found = join_answer_sets(list(tables.values()), list(tables), set(), column), {}
    for concept in tables:
        near = joined[column].isin(source.neighbours(concept))
        target = joined["group"] == "target"
        mine = (joined[column] == concept) | (~target & (near | ~joined["extra"]))
        group = np.select([target, near], ["target", "neighbours"], "rest")
        found[concept] = joined.assign(group=group)[mine].reset_index(drop=True)
    return found
