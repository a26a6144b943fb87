"""A call of `unlearn` for a method that is handed a trial: of each tower, or of another model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from slugkit.base import SettingError, peak_memory
from slugkit.data import Pairs, Source
from slugkit.evaluation.clip import Scorer
from slugkit.evaluation.diffusion import PipelineMeasure
from slugkit.evaluation.vlm import own_words
from slugkit.method.layers import layer_table
from slugkit.method.search import Criterion, Measure
from slugkit.models import Clip
from slugkit.tasks import domain_of
from slugkit.tasks.questions import questions_about
from slugkit.unlearning.concept import require_known
from slugkit.unlearning.families import OnObjective, OnPipeline, OnVlm
from slugkit.unlearning.laps import Laps
from slugkit.unlearning.methods import Method
from slugkit.unlearning.model_trial import ModelTrial
from slugkit.unlearning.objectives import CachedMeasure
from slugkit.unlearning.pipeline import require_drawn, search_set
from slugkit.unlearning.probing import Budget, OutOfProbes
from slugkit.unlearning.result import Result
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.trial import Trial, tower_layers
from slugkit.unlearning.vlm import VlmMeasure, need_named

OTHERS = {OnPipeline: "pipeline", OnVlm: "vlm"}
"""Families whose model a method may change itself -> what it is called among the towers."""


@dataclass
class RivalCall:
    """One call of `unlearn` for a method that is handed a `Trial` of each tower, or a `ModelTrial`
    of a pipeline or a LLaVA.
    """

    clip: Clip
    data: Source | None
    concept: str
    how: Method
    family: Any
    forget: Pairs | None
    forget_size: int
    seed: int
    budget: Budget | None

    def run(self, side: RetainSide) -> Result:
        """Each tower in its turn."""
        asked = next((kind for on, kind in OTHERS.items() if isinstance(self.family, on)), None)
        asked = self.family.towers if asked is None else (asked,)
        towers = [t for t in asked if t in self.how.towers]
        if not towers:
            kind = set(self.how.towers) & set(OTHERS.values())
            advice = "Hand it the model that it works on as `on`" if kind else "Leave `on` out"
            advice = advice if kind or set(asked) & set(OTHERS.values()) else "Name such a tower"
            raise SettingError(
                f"{self.how.name} can change {' and '.join(self.how.towers)}, and was asked to"
                f" change {' and '.join(asked)}. {advice}, or choose another method."
            )
        side.require(self.concept)
        laps, tables, found = Laps(), [], {"patches": {}, "failed": {}, "nearest": {}}
        for tower in set(asked) - set(towers):
            found["failed"][tower] = f"{self.how.name} cannot change the {tower} tower"
        pairs, unused = 0, []
        with peak_memory() as peak:
            with laps("data"):
                forget = self.forget
                if forget is None:
                    forget = self.data.forget_set(self.concept, self.forget_size, self.seed)
            for tower in towers:
                with laps(tower):
                    trial = self._trial(tower, forget, side)
                    with trial, suppress(OutOfProbes):
                        self.how.run(trial)
                    edit, forgotten, table = trial.found(self.concept, self.how.name)
                if forgotten and edit is not None:
                    found["patches"][tower] = edit
                else:
                    lowest = 100 * table["forget"].min() if len(table) else 100
                    found["failed"][tower] = (
                        f"no state of {self.how.name} made the model forget: the lowest forget"
                        f" accuracy in {len(table)} probes was {lowest:.1f} %"
                    )
                    if edit is not None:
                        found["nearest"][tower] = edit
                tables.append(table)
                pairs += trial.pairs
                unused += trial.remarks
        table = pd.concat(tables, ignore_index=True)
        found |= {"unused": "; ".join(dict.fromkeys(unused)), "which": "every layer"}
        found |= {"family": type(self.family).__name__}
        found |= {"at_most": self.family.at_most} | laps.costs(pairs, table, peak)
        layers = layer_table(self.clip.model).assign(front=False)
        return Result(self.concept, self.how.name, layers, table, **found)

    def _trial(self, tower: str, forget: Pairs, side: RetainSide) -> Trial | ModelTrial:
        """What the method is handed. Raises SearchFailedError where the model knows nothing of the
        concept.
        """
        budget = self.budget or Budget(len(forget) + len(side.pairs))
        if isinstance(self.family, OnPipeline | OnVlm):
            given = self.data, self.concept, side, *self._looks()
            model = self.family.pipe if isinstance(self.family, OnPipeline) else self.family.vlm
            criterion = Criterion("fa1", self.family.at_most)
            trial = ModelTrial(model, *given, criterion, budget, self.seed)
            trial.stop_ratio = getattr(self.family, "stop_ratio", trial.stop_ratio)
            return trial
        first = tower_layers(self.clip, tower)[0]
        if isinstance(self.family, OnObjective):
            measure, criterion = self.family.objective, self.family.criterion
        else:
            scorer = Scorer(self.clip, self.data.exam(self.concept, "search"), layers=[first])
            criterion = scorer.criterion(self.family.target)
            require_known(scorer, criterion)
            measure = CachedMeasure(scorer, first)
        return Trial(self.clip, tower, forget, side, measure, criterion, budget, self.seed)

    def _looks(self) -> tuple[pd.DataFrame, tuple[int, float], Callable[[Any], Measure]]:
        """Of a pipeline or a LLaVA: the prompts that name the concept, how it samples, and what a
        probe asks.
        """
        if isinstance(self.family, OnVlm):
            vlm, words, size = self.family.vlm, self.family.words, self.family.target_size
            given = self.data, self.concept, "search", words, size, self.family.size, False
            questions = own_words(vlm, questions_about(*given))
            need_named(vlm, questions)
            return pd.DataFrame(), (0, 0.0), lambda m: VlmMeasure(m, questions, None, _as_it_is)
        pipe, judge, sampling = self.family.pipe, self.family.judge, self.family.sampling
        asked = search_set(self.data, self.concept, self.family.layers)
        domain = domain_of(self.data, self.concept)
        require_drawn(pipe, judge, asked, domain, self.family.ua, *sampling)
        how = judge, asked, domain, _as_it_is, *sampling, self.family.at_most
        prompts = asked[asked["group"] == "target"]
        return prompts, sampling, lambda model: PipelineMeasure(model, *how)


def _as_it_is() -> None:
    """The step is in the model already."""
