"""A call of `unlearn` for a method that is handed a `Trial` of each tower."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from slugkit.base import SettingError, peak_memory
from slugkit.data import Pairs, Source
from slugkit.evaluation.clip import Scorer
from slugkit.method.layers import layer_table
from slugkit.models import Clip
from slugkit.unlearning.concept import require_known
from slugkit.unlearning.families import OnClip, OnObjective
from slugkit.unlearning.laps import Laps
from slugkit.unlearning.methods import Method
from slugkit.unlearning.objectives import CachedMeasure
from slugkit.unlearning.probing import Budget, OutOfProbes
from slugkit.unlearning.result import Result
from slugkit.unlearning.retain import RetainSide
from slugkit.unlearning.trial import Trial, tower_layers


@dataclass
class RivalCall:
    """One call of `unlearn` for a method that is handed a `Trial` of each tower."""

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
        if not isinstance(self.family, OnClip):
            raise SettingError(
                f"{self.how.name} changes many layers of a CLIP, and was asked to work on"
                f" {type(self.family).__name__}; a CLIP was expected. Leave `on` out."
            )
        towers = [t for t in self.family.towers if t in self.how.towers]
        if not towers:
            raise SettingError(
                f"{self.how.name} can change the {' and '.join(self.how.towers)} tower; towers is"
                f" {self.family.towers}. Name one that it can change."
            )
        side.require(self.concept)
        laps, tables, found = Laps(), [], {"patches": {}, "failed": {}, "nearest": {}}
        for tower in set(self.family.towers) - set(towers):
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
        found |= {"at_most": self.family.at_most} | laps.costs(pairs, table, peak)
        layers = layer_table(self.clip.model).assign(front=False)
        return Result(self.concept, self.how.name, layers, table, **found)

    def _trial(self, tower: str, forget: Pairs, side: RetainSide) -> Trial:
        """What the method is handed. Raises SearchFailedError where the model knows nothing of the
        concept.
        """
        first = tower_layers(self.clip, tower)[0]
        if isinstance(self.family, OnObjective):
            measure, criterion = self.family.objective, self.family.criterion
        else:
            scorer = Scorer(self.clip, self.data.exam(self.concept, "search"), layers=[first])
            criterion = scorer.criterion(self.family.target)
            require_known(scorer, criterion)
            measure = CachedMeasure(scorer, first)
        budget = self.budget or Budget(len(forget) + len(side.pairs))
        return Trial(self.clip, tower, forget, side, measure, criterion, budget, self.seed)
