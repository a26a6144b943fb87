"""What an unlearning method found: the ranked layers, every probe, the chosen edits, the costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
from slugkit.unlearning.steering import Steering

Directions = dict[str, torch.Tensor]
"""Layer, or weight, -> a gradient or what is stepped along, shaped like it."""
Edit = patch.Patch | patch.PatchSet | Steering
"""What a method leaves."""


@dataclass
class Result:
    """What one method found for one concept, or for several together.

    Attributes:
        concept: what is forgotten; several names are joined by ", ".
        method: a name of `sk.METHODS`.
        layers: the layer table with importance, cosine, alignment and front.
        table: every probe of the search, one row each.
        patches: the chosen edits, by tower, or by "pipeline" or "vlm" where that was changed
            itself; by concept where each has an edit of its own.
        failed: tower, or concept, -> why it has no edit.
        costs: pairs seen forwards and backwards, probes, seconds in all, peak memory in MB.
        seconds: by stage.
        g_forget: the forget gradient by weight.
        directions: what was stepped along, by layer searched.
        searched: the layers, in the order of the search.
        family: on what the step was searched, a class of `slugkit.unlearning.families`.
        which: on which layers, see `front_layers`; "every layer" of a method that changes them all.
        at_most: the share of the target that counts as forgotten, of the search's criterion.
        nearest: by tower, where no state forgot the one that came nearest, if it is an edit.
        unused: why the method did not use up its budget, if it says so.
    """

    concept: str
    method: str
    layers: pd.DataFrame
    table: pd.DataFrame
    patches: dict[str, Edit] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    g_forget: Directions = field(default_factory=dict, repr=False)
    directions: Directions = field(default_factory=dict, repr=False)
    searched: list[str] = field(default_factory=list, repr=False)
    which: str = "front"
    family: str = "OnClip"
    at_most: float = 0.0
    nearest: dict[str, Edit] = field(default_factory=dict)
    unused: str = ""

    def choose(self, clip: Clip) -> Result:
        """Itself, with the winning patch of every tower that was searched."""
        self.patches, self.failed = {}, {}
        for tower in dict.fromkeys(self.table["tower"]):
            try:
                given = self.directions, self.table, tower, self.concept, {"method": self.method}
                self.patches[tower] = winning_patch(clip, *given, self.at_most)
            except SearchFailedError as error:
                self.failed[tower] = str(error)
                self.nearest[tower] = self._nearest(clip, tower)
        return self

    def _nearest(self, clip: Clip, tower: str) -> patch.Patch:
        """The probe with the lowest forget accuracy, of several the smallest step, as a patch."""
        mine = self.table[self.table["tower"] == tower]
        best = mine.sort_values(["forget", "rho"], kind="stable").iloc[0]
        return _patch_at(clip, self.directions, best, self.concept, {"method": self.method})

    def on_front(self, clip: Clip) -> Result:
        """What the same search would have found on the layers of the front alone, at the cost of
        their probes.
        """
        table = self.table[self.table["layer"].isin(front_layers(self.layers))]
        costs = self.costs | {"probes": len(table), "seconds": np.nan}
        return replace(self, table=table, costs=costs, which="front").choose(clip)

    def edit(self, tower: str) -> Edit:
        """The chosen edit of a tower. Raises SearchFailedError, saying why, where there is none."""
        if tower not in self.patches:
            known = ", ".join(self.patches) or "nothing"
            why = f"{tower!r} was not searched; there is an edit of {known}."
            raise SearchFailedError(self.failed.get(tower, why))
        return self.patches[tower]

    def outcome(self) -> str:
        """What the search came to, in one line: each edit's layer, its relative step and the trial
        steps, or why there is none.
        """
        edits = [f"{p.layer}, rho {100 * p.rho:.0f} %" for p in self.patches.values()]
        failed = [f"not forgotten, {why.splitlines()[0]}" for why in self.failed.values()]
        return "; ".join([*edits, *failed, f"{len(self.table)} trial steps"])

    @contextmanager
    def applied(self, model: Any, tower: str | None = None) -> Iterator[Any]:
        """Within the block the model that is yielded holds every chosen edit; afterwards it is as
        before.

        `evaluate` measures each edit on its own.

        Args:
            tower: the edit of this tower alone, for a model that holds no other.
            model: a `Clip`, or any model of the three libraries that holds the tower.
        """
        edits = [self.edit(tower)] if tower else list(self.patches.values())
        with ExitStack() as stack:
            for edit in edits:
                if isinstance(edit, Steering):
                    model = stack.enter_context(edit.applied(model))
                else:
                    stack.enter_context(patch.applied(edit, getattr(model, "model", model)))
            yield model


def front_layers(
    table: pd.DataFrame, tower: str | None = None, which: str = "front", seed: int = 0
) -> list[str]:
    """Names of the layers that are searched, of one tower or of both.

    which: "front", the layers on the Pareto front (the paper's rule), "all" candidates, or one of
    `CHOICES`. seed: of the random one.
    """
    if which in CHOICES:
        towers = [tower] if tower else dict.fromkeys(table["tower"])
        mine = (table[table["candidate"] & (table["tower"] == each)] for each in towers)
        return [name for each in mine for name in CHOICES[which](each, seed)["layer"]]
    on = table["candidate"] if which == "all" else table["front"]
    return table.loc[on & ((table["tower"] == tower) if tower else True), "layer"].tolist()


def _random_layers(mine: pd.DataFrame, seed: int) -> pd.DataFrame:
    """As many as the front has."""
    return mine.sample(max(1, int(mine["front"].sum())), random_state=seed).sort_index()


def _deepest_layer(mine: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Of the front's layers in blocks above the first the deepest; where there is none, the last
    block's attn.out_proj.
    """
    inside = mine[mine["front"] & (mine["block"] > 0)]
    if inside.empty:
        inside = mine[mine["kind"] == "attn.out_proj"]
    return inside.sort_values("block", kind="stable").tail(1)


CHOICES: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "random layers": _random_layers,
    "most important layer": lambda mine, seed: mine.nlargest(1, "importance"),
    "least aligned layer": lambda mine, seed: mine.nsmallest(1, "alignment"),
    "product score": lambda mine, seed: mine.loc[
        [(mine["importance"] * (1 - mine["alignment"])).idxmax()]
    ],
    "deepest layer": _deepest_layer,
}
"""Other choices of layers than the front, for ablations: a tower's candidates with their scores,
and a seed -> some of them.
"""


def winning_patch(
    clip: Clip,
    directions: Directions,
    table: pd.DataFrame,
    tower: str,
    concept: str,
    provenance: dict | None = None,
    at_most: float = 0.0,
) -> patch.Patch:
    """The patch of a tower's winner.

    Args:
        directions: layer, or weight, -> what is stepped along.
        table: the probes.
        at_most: that of the search's criterion.

    Raises:
        SearchFailedError: no layer of the tower forgot.
    """
    best = winner(table, tower, at_most)
    return _patch_at(clip, directions, best, concept, provenance or {})


def _patch_at(
    clip: Clip, directions: Directions, probe: pd.Series, concept: str, provenance: dict
) -> patch.Patch:
    """The patch of one probe, a row of the table."""
    layer = probe["layer"]
    editable = EditableLayer.of(clip.model, layer, weight_of(directions, layer))
    measured = [k for k in probe.index if k in ("forget", "retain") or k.startswith("retain_")]
    metrics = {k: float(probe[k]) for k in measured if np.isfinite(probe[k])}
    return patch.make(
        layer,
        editable,
        float(probe["lam"]),
        concept,
        tower=probe["tower"],
        model=clip.model,
        metrics={"split": "search", **metrics},
        provenance=provenance,
    )
