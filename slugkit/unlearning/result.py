"""What an unlearning method found: the ranked layers, every probe, the chosen edits, the costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from slugkit import patch
from slugkit.base import SearchFailedError
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import weight_of
from slugkit.method.search import winner
from slugkit.models import Clip

Directions = dict[str, torch.Tensor]
"""Layer, or weight, -> a gradient or what is stepped along, shaped like it."""


@dataclass
class Result:
    """What one method found for one concept, or for several together (names joined by ", ").

    layers: the layer table with importance, cosine, alignment and front. table: every probe of the
    search, one row each. patches: the chosen edits, by tower; by concept where each has an edit of
    its own. failed: tower, or concept, -> why it has no edit. costs: pairs seen forwards and
    backwards, probes, seconds in all, peak memory in MB; seconds: by stage. g_forget: the forget
    gradient by weight. directions: what was stepped along, by layer searched. searched: in the
    order of the search, on the "front" or "all" candidates (which). family: a class of
    `slugkit.unlearning.families`. at_most: the share of the target that counts as forgotten.
    """

    concept: str
    method: str
    layers: pd.DataFrame
    table: pd.DataFrame
    patches: dict[str, patch.Patch] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    g_forget: Directions = field(default_factory=dict, repr=False)
    directions: Directions = field(default_factory=dict, repr=False)
    searched: list[str] = field(default_factory=list, repr=False)
    which: str = "front"
    family: str = "OnClip"
    at_most: float = 0.0

    def choose(self, clip: Clip) -> Result:
        """Itself, with the winning patch of every tower that was searched."""
        self.patches, self.failed = {}, {}
        for tower in dict.fromkeys(self.table["tower"]):
            try:
                given = self.directions, self.table, tower, self.concept, {"method": self.method}
                self.patches[tower] = winning_patch(clip, *given, self.at_most)
            except SearchFailedError as error:
                self.failed[tower] = str(error)
        return self

    def on_front(self, clip: Clip) -> Result:
        """What the same search would have found on the front alone, at the cost of its probes."""
        table = self.table[self.table["layer"].isin(front_layers(self.layers))]
        costs = self.costs | {"probes": len(table), "seconds": np.nan}
        return replace(self, table=table, costs=costs, which="front").choose(clip)

    def edit(self, tower: str) -> patch.Patch:
        """The chosen edit of a tower. Raises SearchFailedError, saying why, where there is none."""
        if tower not in self.patches:
            known = ", ".join(self.patches) or "nothing"
            why = f"{tower!r} was not searched; there is an edit of {known}."
            raise SearchFailedError(self.failed.get(tower, why))
        return self.patches[tower]

    def outcome(self) -> str:
        """What the search came to, in one line: layers, relative steps, trial steps, or why there
        is no edit.
        """
        edits = [f"{p.layer}, rho {100 * p.rho:.0f} %" for p in self.patches.values()]
        failed = [f"not forgotten, {why.splitlines()[0]}" for why in self.failed.values()]
        return "; ".join([*edits, *failed, f"{len(self.table)} trial steps"])

    @contextmanager
    def applied(self, model: Any, tower: str | None = None) -> Iterator[Any]:
        """Within the block the model (a `Clip`, or any of the three libraries that holds the
        towers) has every chosen edit, or that of one tower; afterwards it is as before.
        """
        edits = [self.edit(tower)] if tower else list(self.patches.values())
        with patch.all_applied(edits, getattr(model, "model", model)):
            yield model


def front_layers(table: pd.DataFrame, tower: str | None = None, which: str = "front") -> list[str]:
    """The layers that are searched, of one tower or both: those on the Pareto front, or "all"
    candidates.
    """
    on = table["candidate"] if which == "all" else table["front"]
    return table.loc[on & ((table["tower"] == tower) if tower else True), "layer"].tolist()


def winning_patch(
    clip: Clip,
    directions: Directions,
    table: pd.DataFrame,
    tower: str,
    concept: str,
    provenance: dict | None = None,
    at_most: float = 0.0,
) -> patch.Patch:
    """The patch of a tower's winner. directions: layer, or weight, -> what is stepped along. table:
    the probes. at_most: that of the criterion. Raises SearchFailedError where no layer of the tower
    forgot.
    """
    best = winner(table, tower, at_most)
    editable = EditableLayer.of(clip.model, best["layer"], weight_of(directions, best["layer"]))
    measured = [k for k in best.index if k in ("forget", "retain") or k.startswith("retain_")]
    metrics = {k: float(best[k]) for k in measured if np.isfinite(best[k])}
    return patch.make(
        best["layer"],
        editable,
        float(best["lam"]),
        concept,
        tower=tower,
        model=clip.model,
        metrics={"split": "search", **metrics},
        provenance=provenance or {},
    )
