"""What a method is given to make one tower of a CLIP forget, and what it may spend on it.

A method changes `Trial.weights` in place, asks `Trial.probe` what that forgot, and may go on, put
the weights back (`Trial.restore`) and try something else, until pairs or probes are used up. The
trial remembers the best state; no method decides by itself what is best, so that all of them are
judged by one rule.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from slugkit.unlearning.losses import batch_of, encoded
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

    def __init__(self, clip: Clip, pairs: Pairs, v: torch.Tensor, t: torch.Tensor, seed: int):
        self.clip, self.pairs, self.v, self.t, self.seed = clip, pairs, v, t, seed

    def __len__(self) -> int:
        return len(self.pairs)

    def draws(self, size: int, distinct: bool = False) -> Iterator[list[int]]:
        """Rows, `size` at a time, without end: all pairs in a seeded order, then in another.

        distinct: no two pictures of a class and style together, as InfoNCE wants it.
        """
        size = min(size, len(self))
        for again in range(10**9):
            if distinct:
                found = distinct_batches(self.pairs.labels, size, self.seed + again)
                yield from (rows for rows in found if len(rows) == size or len(found) == 1)
            else:
                order = np.random.default_rng([self.seed, again]).permutation(len(self)).tolist()
                yield from (order[i : i + size] for i in range(0, len(self) - size + 1, size))


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
        originals: layer -> what it held.
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
        self._size = math.sqrt(sum(norm(w) ** 2 for w in self.originals.values()))
        self._forget, self.pairs, self.probes = forget, 0, 0
        self.rows: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        self._best: tuple[int, dict[str, torch.Tensor]] | None = None

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

    @cached_property
    def forget(self) -> Pool:
        """The forget set."""
        with torch.no_grad():
            features = encoded(self.clip, batch_of(self.clip, self._forget))
        return Pool(self.clip, self._forget, *(F.normalize(x, dim=-1) for x in features), self.seed)

    @cached_property
    def retain(self) -> Pool:
        """The retain set."""
        return Pool(self.clip, self.side.pairs, *self.side.features, self.seed)

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
        """SLUG's forget gradient of the layers at the unedited weights, which costs the forget
        set's pairs. Ask before the first change.
        """
        self.pairs += len(self._forget)
        return forget_gradient(self.clip, self._forget, weights=self.layers, chunk=self.side.chunk)

    @cached_property
    def g_retain(self) -> Directions:
        """SLUG's retain gradient of the layers, which costs the retain set's pairs."""
        self.pairs += self.side.pairs_seen
        return {name: self.side.gradient[name] for name in self.layers}

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
    def restore(self) -> None:
        """Put the unedited weights back, bit for bit."""
        for name, original in self.originals.items():
            self.weights[name].copy_(original)

    @property
    def rho(self) -> float:
        """Size of the present change relative to the tower's layers."""
        moved = (norm(self.originals[name] - w.detach()) ** 2 for name, w in self.weights.items())
        return math.sqrt(sum(moved)) / self._size

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

    def search(self, editable: Any, first: float = 0.0, trials: int = 0, **setting) -> bool:
        """SLUG's own search of one number, on anything that `Dial` or `Joint` is: double until
        forgotten, then bisect; whether any step forgot.

        first: the first value; 0 means a relative change of 10 %. trials: probes, else all left.
        """
        trials = min(trials or self.probes_left, self.probes_left)
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
        if self._best is None or self._better(row, self.rows[self._best[0]]):
            now = {name: w.detach().clone() for name, w in self.weights.items()}
            self._best = len(self.rows) - 1, now

    def _better(self, new: dict, old: dict) -> bool:
        """Of two that forget the one that keeps more, within one picture the smaller change; one
        that forgets before one that does not; of those that do not the one that comes nearer.
        """
        if new["forgotten"] != old["forgotten"]:
            return bool(new["forgotten"])
        if not new["forgotten"]:
            return (new["forget"], new["rho"]) < (old["forget"], old["rho"])
        gain, pictures = new["retain"] - old["retain"], new.get(PICTURES, 0)
        picture = 1 / pictures + 1e-9 if pictures else 0.0
        return gain > picture or (abs(gain) <= picture and new["rho"] < old["rho"])

    def found(self, concept: str, method: str) -> tuple[PatchSet | None, bool, pd.DataFrame]:
        """The best state as an edit, whether it has forgotten, and every probe, the best one in the
        column chosen. None where no state was probed or the best one is the unedited model.
        """
        self.restore()
        table = pd.DataFrame(self.rows)
        if self._best is None:
            return None, False, table
        at, weights = self._best
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
        self.importance = math.sqrt(length) / trial._size

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

    @torch.no_grad()
    def set(self, lam: float) -> None:
        """Write the weights that the number means."""
        self.trial.restore()
        for name, weight in self.write(lam).items():
            self.trial.weights[name].copy_(weight)

    def rho(self, lam: float) -> float:
        """The number itself: how large a change it is, is known after it was made."""
        return lam

    def restore(self) -> None:
        """Put every layer back."""
        self.trial.restore()
