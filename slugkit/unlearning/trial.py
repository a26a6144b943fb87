"""What a method is given to make one tower of a CLIP forget, and what it may spend on it.

A method changes `Trial.weights` in place, asks `Trial.probe` what that forgot, and may go on, put
the weights back (`Trial.restore`) and try something else, until pairs or probes are used up. The
trial remembers the best state; no method decides by itself what is best, so that all of them are
judged by one rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slugkit.base import SettingError
from slugkit.data import Pairs
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import candidates, layer_table, weight_of
from slugkit.method.losses import distinct_batches
from slugkit.method.ranking import norm
from slugkit.method.search import PICTURES, Criterion, Measure, probe_steps
from slugkit.models import Clip
from slugkit.patch import PatchSet, set_of
from slugkit.unlearning.gradients import forget_gradient
from slugkit.unlearning.result import Directions
from slugkit.unlearning.retain import RetainSide

PROBES = 40
"""Probes of a tower, where nobody says otherwise: as many as SLUG makes on a front of four."""


class Budget(NamedTuple):
    """What a method may use up on one tower. pairs: seen forwards and backwards; probes: looks at
    the search pictures.
    """

    pairs: int
    probes: int = PROBES


class OutOfProbes(Exception):
    """A method asked for one more look than it may have: its trial is over, which is no error."""


class Pool:
    """Pairs to learn from, and their features by the unedited model.

    pairs: N of them. v, t: (N, d) float32 of unit length, of pictures and captions.
    """

    def __init__(self, pairs: Pairs, v: torch.Tensor, t: torch.Tensor, seed: int):
        self.pairs, self.v, self.t, self.seed = pairs, v, t, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def draws(self, size: int, distinct: bool = False) -> Draws:
        """Rows, `size` at a time or as many as there are, without end: all pairs in a seeded order,
        then in another.

        distinct: no two pictures of a class and style together, as InfoNCE wants it.
        """

        def once(again: int) -> list[list[int]]:
            if distinct:
                found = distinct_batches(self.pairs.labels, size, self.seed + again)
            else:
                order = np.random.default_rng([self.seed, again]).permutation(len(self)).tolist()
                found = [order[i : i + size] for i in range(0, len(order), size)]
            most = max(map(len, found))
            return [rows for rows in found if len(rows) == most]

        return Draws(once)


class Draws:
    """Batches of rows without end, all of one size."""

    def __init__(self, once: Callable[[int], list[list[int]]]):
        self._once, self._again, self._left = once, 0, once(0)
        self.size = len(self._left[0])

    def __next__(self) -> list[int]:
        if not self._left:
            self._again += 1
            self._left = self._once(self._again)
        return self._left.pop(0)


class Trial:
    """One tower of a CLIP in the hands of a method.

    Args:
        forget: pairs that show the concept.
        side: the retain side, whose pairs show none of it.
        measure: what a probe asks of the model as it is.
        criterion: when it has forgotten.
        seed: of everything that is drawn.

    Attributes:
        layers: names of the candidate layers of the tower: all that may change.
        weights: layer -> the model's own parameter; it learns within `with trial:`.
        originals: layer -> what it held; size: the norm of all of them, ||theta||.
        forget, retain: a `Pool` of either set.
        pairs, probes: what was used up so far.
        remarks: why a method could not use its budget; written by methods.
    """

    def __init__(
        self,
        clip: Clip,
        tower: str,
        forget: Pairs,
        side: RetainSide,
        measure: Measure,
        criterion: Criterion,
        budget: Budget,
        seed: int = 0,
    ):
        self.clip, self.tower, self.side, self.seed = clip, tower, side, seed
        self.measure, self.criterion, self.budget = measure, criterion, budget
        self.layers = tower_layers(clip, tower)
        self.weights = {name: clip.model.get_parameter(name) for name in self.layers}
        self.originals = {name: w.detach().clone() for name, w in self.weights.items()}
        self.size = math.sqrt(sum(norm(w) ** 2 for w in self.originals.values()))
        self._forget, self.pairs, self.probes = forget, 0, 0
        self.rows: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        self._held: dict[int, dict[str, torch.Tensor]] = {}

    def __enter__(self) -> Trial:
        named = dict(self.clip.model.named_parameters())
        self._learning = {name: w.requires_grad for name, w in named.items()}
        for name, w in named.items():
            w.requires_grad_(name in self.weights)
        return self

    def __exit__(self, *exc_info) -> None:
        self.restore()
        self.clip.model.zero_grad(set_to_none=True)
        for name, w in self.clip.model.named_parameters():
            w.requires_grad_(self._learning[name])

    @contextmanager
    def _unedited(self) -> Iterator[None]:
        """Within the block the unedited weights are in place; afterwards those of before."""
        now = {name: w.detach().clone() for name, w in self.weights.items()}
        self.restore()
        try:
            yield
        finally:
            self.write(now)

    @cached_property
    def forget(self) -> Pool:
        """The forget set."""
        with self._unedited():
            pairs = self._forget
            v = self.clip.image_features(pairs.images)
            return Pool(pairs, v, self.clip.text_features(pairs.captions), self.seed)

    @cached_property
    def retain(self) -> Pool:
        """The retain set."""
        with self._unedited():
            return Pool(self.side.pairs, *self.side.features, self.seed)

    @property
    def pairs_left(self) -> int:
        """Pairs that may still be seen forwards and backwards."""
        return self.budget.pairs - self.pairs

    @property
    def probes_left(self) -> int:
        """Probes that may still be made."""
        return self.budget.probes - self.probes

    @cached_property
    def g_forget(self) -> Directions:
        """SLUG's forget gradient of the layers, at the unedited weights; it costs the forget set's
        pairs.
        """
        self.pairs += len(self._forget)
        with self._unedited():
            how = {"weights": self.layers, "chunk": self.side.chunk}
            return forget_gradient(self.clip, self._forget, **how)

    @cached_property
    def g_retain(self) -> Directions:
        """SLUG's retain gradient of the layers, likewise; it costs the retain set's pairs."""
        self.pairs += self.side.pairs_seen
        with self._unedited():
            found = self.side.gradient
            return {name: found[name].to(w.device) for name, w in self.weights.items()}

    def encode(self, pool: Pool, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of pairs by the model as it is: v and t, (n, d) float32 of unit length. The
        tower at hand carries a graph, which counts the pairs; the other's are the pool's.
        """
        self.pairs += len(rows)
        if self.tower == "text":
            tokens = self.clip.tokens([pool.pairs.captions[row] for row in rows])
            return pool.v[rows], F.normalize(self.clip.model.encode_text(tokens).float(), dim=-1)
        pixels = self.clip.pixels(pool.pairs.images[np.asarray(rows)])
        return F.normalize(self.clip.model.encode_image(pixels).float(), dim=-1), pool.t[rows]

    @torch.no_grad()
    def write(self, new: Directions) -> None:
        """Put these weights in place; the other layers stay."""
        for name, weight in new.items():
            self.weights[name].copy_(weight)

    def restore(self) -> None:
        """Put the unedited weights back, bit for bit."""
        self.write(self.originals)

    @property
    def rho(self) -> float:
        """Size of the present change relative to the tower's layers."""
        moved = (norm(self.originals[name] - w.detach()) ** 2 for name, w in self.weights.items())
        return math.sqrt(sum(moved)) / self.size

    def probe(self, **setting: float | str) -> bool:
        """Look at the search pictures with the model as it is; whether it has forgotten.

        setting: what led here, columns of the table. Raises OutOfProbes, which a method lets pass.
        """
        if self.probes_left < 1:
            raise OutOfProbes
        forget = self.measure.forget()
        forgotten = self.criterion.forgotten(forget)
        kept = self.measure.retain() if forgotten else {}
        self._note(forget, forgotten, kept, self.rho, setting)
        return forgotten

    def search(
        self, editable: Any, first: float = 0.0, trials: int | None = None, **setting
    ) -> bool:
        """SLUG's own search of one number, on anything that `Dial` or `Joint` is: double until
        forgotten, then bisect; whether any step forgot.

        first: the first value; 0 means a relative change of 10 %. trials: probes; None takes all
        that are left.
        """
        trials = self.probes_left if trials is None else min(trials, self.probes_left)
        if trials < 1:
            raise OutOfProbes
        with editable:
            how = {"lam_init": first, "max_trials": trials}
            found = probe_steps(self.layers[0], editable, self.measure, self.criterion, **how)
            for probe in found.probes:
                editable.set(probe.lam)
                kept, given = probe.retain or {}, setting | {"lam": probe.lam}
                self._note(probe.forget, probe.forgotten, kept, self.rho, given)
        self.restore()
        if len(found.probes) < trials:
            self.remarks.append("a search ends where its bracket is narrow, or the step huge")
        return found.chosen is not None

    def _note(self, forget, forgotten: bool, kept: dict, rho: float, setting: dict) -> None:
        """Write a probe down, and keep the weights if it is the best so far."""
        self.probes += 1
        names = {k if k in ("retain", PICTURES) else f"retain_{k}": x for k, x in kept.items()}
        value = self.criterion.value(forget)
        row = {"layer": "every layer", "tower": self.tower, "probe": self.probes, "lam": math.nan}
        row |= {"rho": rho, "fa1": forget["fa1"], "fa5": forget["fa5"], "forget": value}
        row |= {"forgotten": forgotten, "retain": math.nan, **names, **setting}
        self.rows.append(row)
        standing = self._standing()
        if len(self.rows) - 1 in standing:
            now = {name: w.detach().clone() for name, w in self.weights.items()}
            self._held[len(self.rows) - 1] = now
        self._held = {at: self._held[at] for at in standing}

    def _standing(self) -> list[int]:
        """The rows that may still win, the one that would now first: of the states that forget
        those within one picture of what keeps most, by the size of the change; where none forgets,
        the one that comes nearest, of several the smallest change.
        """
        able = [at for at, row in enumerate(self.rows) if row["forgotten"]]
        if not able:
            every = range(len(self.rows))
            return [min(every, key=lambda at: (self.rows[at]["forget"], self.rows[at]["rho"]))]
        pictures = self.rows[able[0]].get(PICTURES, 0)
        least = max(self.rows[at]["retain"] for at in able)
        least -= 1 / pictures + 1e-9 if pictures else 0.0
        near = [at for at in able if self.rows[at]["retain"] >= least]
        return sorted(near, key=lambda at: self.rows[at]["rho"])

    def found(self, concept: str, method: str) -> tuple[PatchSet | None, bool, pd.DataFrame]:
        """The best state as an edit, whether it has forgotten, and every probe, the best one in the
        column chosen. None where no state was probed or the best one is the unedited model.
        """
        self.restore()
        table = pd.DataFrame(self.rows)
        if not self.rows:
            return None, False, table
        at = self._standing()[0]
        weights = self._held[at]
        table["chosen"] = table.index == at
        row = self.rows[at]
        metrics = {"split": "search", "forget": row["forget"]}
        if row["forgotten"]:
            metrics["retain"] = row["retain"]
        if row["rho"] == 0:
            return None, bool(row["forgotten"]), table
        how = {"metrics": metrics, "provenance": {"method": method}}
        edit = set_of(self.clip.model, weights, concept, self.layers, **how)
        return edit, bool(row["forgotten"]), table


def tower_layers(clip: Clip, tower: str) -> list[str]:
    """The candidate layers of a tower, in the network's order: the one that is read first before
    all others.
    """
    table = layer_table(clip.model)
    found = table[table["candidate"] & (table["tower"] == tower)]
    if found.empty:
        raise SettingError(f"The model has no {tower} tower with layers that may change.")
    last = found["kind"].eq("proj") & (found["block"] < 0)
    return candidates(pd.concat([found[~last], found[last]]))


class Joint:
    """Several layers that step together along a direction each: theta - lam * d on all of them.

    directions: layer -> d, shaped like it. It stands where an `EditableLayer` does.
    """

    def __init__(self, trial: Trial, directions: Directions):
        model = trial.clip.model
        given = ((name, weight_of(directions, name)) for name in directions)
        self.layers = [EditableLayer.of(model, name, d) for name, d in given if bool(d.any())]
        if not self.layers:
            raise SettingError("Every direction is zero; one that changes something was expected.")
        length = sum(norm(each.direction) ** 2 for each in self.layers)
        self.importance = math.sqrt(length) / trial.size

    def rho(self, lam: float) -> float:
        """Relative size of the step."""
        return lam * self.importance

    def lam(self, rho: float) -> float:
        """The step of a relative size."""
        return rho / self.importance

    def set(self, lam: float) -> None:
        """Step on every layer."""
        for each in self.layers:
            each.set(lam)

    def restore(self) -> None:
        """Put every layer back."""
        for each in self.layers:
            each.restore()

    def __enter__(self) -> Joint:
        return self

    def __exit__(self, *exc_info) -> None:
        self.restore()


class Dial(Joint):
    """A number of a method's own, 0 or more, that changes the weights in a way of its own; larger
    is to forget more.

    write: the number -> layer -> new weight, of the layers that it changes.
    """

    def __init__(self, trial: Trial, write):
        self.trial, self.write, self.importance = trial, write, 1.0

    def set(self, lam: float) -> None:
        """Write the weights that the number means."""
        self.trial.restore()
        self.trial.write(self.write(lam))

    def rho(self, lam: float) -> float:
        """Relative size of the present change: how large another one is, is not known before."""
        return self.trial.rho

    def restore(self) -> None:
        """Put every layer back."""
        self.trial.restore()
