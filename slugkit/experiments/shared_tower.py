"""One concept forgotten by both methods in a model that shares a tower with a CLIP."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pandas as pd
import torch

from slugkit.base import peak_memory, require_choice
from slugkit.data import Source
from slugkit.experiments.sweep import both_methods, chosen
from slugkit.models import Clip
from slugkit.unlearn.concept import DAMPING, METHODS, Forgetting, score_layers
from slugkit.unlearn.gradients import forget_gradient
from slugkit.unlearn.retain import RetainSide
from slugkit.unlearn.transfer import in_both


class SharedTower:
    """One concept and both methods at equal budgets; a family of models says what is its own.

    forget_size, retain_size, batch_size, max_trials, damping, seed, shared: as of
    `slugkit.unlearn.concept.forget_concept`. All models are left as they were.
    """

    tower = "text"
    at_most = 0.0

    def __init__(
        self,
        clip: Clip,
        model,
        source: Source,
        concept: str,
        *,
        forget_size: int = 120,
        retain_size: int = 2560,
        batch_size: int = 128,
        max_trials: int = 10,
        damping: float = DAMPING,
        seed: int = 0,
        shared: RetainSide | None = None,
    ):
        self.clip, self.model, self.source, self.concept = clip, model, source, concept
        self.forget_size, self.batch_size, self.seed = forget_size, batch_size, seed
        self.max_trials, self.damping = max_trials, damping
        self.side = shared or RetainSide(clip, source, [concept], retain_size, batch_size, seed)

    def layers(self, table: pd.DataFrame) -> list[str]:
        """The layers to search, by the scored layer table; the first is the paper's choice."""
        raise NotImplementedError

    def directions(self, method: str, g_forget: dict, names: list[str]) -> tuple[dict, int]:
        """What is stepped along, by layer, and how many more pairs it took to find."""
        raise NotImplementedError

    def search(self, directions: dict[str, torch.Tensor], names: list[str]) -> pd.DataFrame:
        """The table of all probes."""
        raise NotImplementedError

    def measures(self) -> dict[str, float]:
        """Every measure of the model as it stands."""
        raise NotImplementedError

    def forget(self, method: str, ranked: Forgetting | None = None) -> Forgetting:
        """What one method finds on all layers that are searched; the front is the paper's choice.

        ranked: what another method found, whose gradient and layers are taken over.
        """
        require_choice(method, METHODS, "The method")
        start = perf_counter()
        with peak_memory() as peak:
            self.side.require(self.concept)
            forget = self.source.forget_set(self.concept, self.forget_size, self.seed)
            if ranked:
                g_forget, table, names = ranked.g_forget, ranked.layers, list(ranked.directions)
            else:
                g_forget = forget_gradient(self.clip, forget, self.batch_size)
                given = self.side.gradient
                table = score_layers(self.clip, g_forget, given, parts=self.side.parts)
                names = self.layers(table)
                table["front"] = table["layer"] == names[0]
            along, more = self.directions(method, g_forget, names)
            probes = self.search(along, names)
        costs = {"pairs": len(forget) + self.side.pairs_seen + more, "probes": len(probes)}
        costs |= {"seconds": perf_counter() - start, "peak_mb": peak[0]}
        kept = {"g_forget": g_forget, "directions": along, "which": "all", "at_most": self.at_most}
        return Forgetting(self.concept, method, table, probes, costs=costs, **kept).choose(
            self.clip
        )

    def rows(self, more=lambda found: {}) -> list[dict]:
        """One row a method and set of layers: what was chosen, what it took, and every measure
        before and after. more: columns of its own, by what was found.
        """
        found, kind = both_methods(self.clip, self.forget), self.source.kind(self.concept)
        before, rows, known = self.measures(), [], {}
        for each in found:
            edit = each.patches.get(self.tower)
            if edit and edit.sha256 not in known:
                with in_both(edit, self.clip, self.model):
                    known[edit.sha256] = self.measures()
            after = known[edit.sha256] if edit else dict.fromkeys(before, np.nan)
            row = chosen(each, self.tower, kind) | more(each)
            row |= {f"{name}_before": value for name, value in before.items()}
            rows.append(row | {f"{name}_after": value for name, value in after.items()})
        return rows
