"""What every method is handed, whatever model it works on: weights that may change, looks that are
counted, and a memory for the best state.

No method decides by itself what is best, so that all of them are judged by one rule.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd
import torch

from slugkit.base import SettingError
from slugkit.method.edit import EditableLayer
from slugkit.method.layers import weight_of
from slugkit.method.ranking import norm
from slugkit.method.search import PICTURES, STOP_RATIO, Criterion, Measure, probe_steps
from slugkit.unlearning.result import Directions

PROBES = 40
"""Probes of a tower, where nobody says otherwise: as many as SLUG makes on a front of four."""
EVERY = "every layer"
"""Stands in the place of a layer's name."""


class Budget(NamedTuple):
    """What a method may use up on one tower. pairs: seen forwards and backwards; probes: looks at
    the search pictures.
    """

    pairs: int
    probes: int = PROBES


class OutOfProbes(Exception):
    """A method asked for one more look than it may have: its trial is over, which is no error."""


class Probing:
    """A model in the hands of a method.

    Args:
        network: what holds the weights.
        names: of the weights that may change.
        measure: what a probe asks of the model as it is.
        criterion: when it has forgotten.
        seed: of everything that is drawn.

    Attributes:
        tower: what is changed, in the table of probes.
        stop_ratio: as of `probe_steps`.
        dear: whether looking at what must stay is dear, so that a search looks at it once, at the
            smallest step that forgets, and a training ends where it forgets.
        weights: name -> the network's own parameter; it learns within `with trial:`.
        originals: name -> what it held; size: the norm of all of them, ||theta||.
        pairs, probes: what was used up so far.
        remarks: why a method could not use its budget; written by methods.
    """

    tower = ""
    stop_ratio = STOP_RATIO
    dear = False

    def __init__(
        self,
        network: torch.nn.Module,
        names: list[str],
        measure: Measure,
        criterion: Criterion,
        budget: Budget,
        seed: int = 0,
    ):
        self.network, self.seed = network, seed
        self.measure, self.criterion, self.budget = measure, criterion, budget
        self.weights = {name: network.get_parameter(name) for name in names}
        self.originals = {name: w.detach().clone() for name, w in self.weights.items()}
        self.size = math.sqrt(sum(norm(w) ** 2 for w in self.originals.values()))
        self.pairs, self.probes = 0, 0
        self.rows: list[dict[str, Any]] = []
        self.remarks: list[str] = []
        self._held: dict[int, Any] = {}

    def __enter__(self) -> Probing:
        named = dict(self.network.named_parameters())
        self._learning = {name: w.requires_grad for name, w in named.items()}
        for name, w in named.items():
            w.requires_grad_(name in self.weights)
        return self

    def __exit__(self, *exc_info) -> None:
        self.restore()
        self.network.zero_grad(set_to_none=True)
        for name, w in self.network.named_parameters():
            w.requires_grad_(self._learning[name])

    @property
    def pairs_left(self) -> int:
        """Pairs that may still be seen forwards and backwards."""
        return self.budget.pairs - self.pairs

    @property
    def probes_left(self) -> int:
        """Probes that may still be made."""
        return self.budget.probes - self.probes

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
            how = {"lam_init": first, "max_trials": trials, "stop_ratio": self.stop_ratio}
            how["every_retain"] = not self.dear
            found = probe_steps(EVERY, editable, self.measure, self.criterion, **how)
            for probe in found.probes:
                editable.set(probe.lam)
                kept, given = probe.retain or {}, setting | {"lam": probe.lam}
                self._note(probe.forget, probe.forgotten, kept, self.rho, given)
        self.restore()
        if len(found.probes) < trials:
            self.remarks.append("a search ends where its bracket is narrow, or the step huge")
        return found.chosen is not None

    def _state(self) -> Any:
        """What has to be remembered to make the present state again."""
        return {name: w.detach().clone() for name, w in self.weights.items()}

    def _note(self, forget, forgotten: bool, kept: dict, rho: float, setting: dict) -> None:
        """Write a probe down, and keep the weights if it is the best so far."""
        self.probes += 1
        names = {k if k in ("retain", PICTURES) else f"retain_{k}": x for k, x in kept.items()}
        value = self.criterion.value(forget)
        row = {"layer": EVERY, "tower": self.tower, "probe": self.probes, "lam": math.nan}
        row |= {"rho": rho, "fa1": forget["fa1"], "fa5": forget["fa5"], "forget": value}
        row |= {"forgotten": forgotten, "retain": math.nan, **names, **setting}
        self.rows.append(row)
        standing = self._standing()
        if len(self.rows) - 1 in standing:
            self._held[len(self.rows) - 1] = self._state()
        self._held = {at: self._held[at] for at in standing}

    def _standing(self) -> list[int]:
        """The rows that may still win, the one that would now first: of the states that forget
        those within one picture of what keeps most, by the size of the change, or of the number
        searched where no weight changes; where none forgets, the one that comes nearest, of several
        the smallest change.
        """

        def size(at: int) -> tuple[float, float]:
            lam = self.rows[at]["lam"]
            return self.rows[at]["rho"], lam if math.isfinite(lam) else 0.0

        able = [a for a, r in enumerate(self.rows) if r["forgotten"] and math.isfinite(r["retain"])]
        if not able:
            every = range(len(self.rows))
            return [min(every, key=lambda at: (self.rows[at]["forget"], *size(at)))]
        pictures = self.rows[able[0]].get(PICTURES, 0)
        least = max(self.rows[at]["retain"] for at in able)
        least -= 1 / pictures + 1e-9 if pictures else 0.0
        near = [at for at in able if self.rows[at]["retain"] >= least]
        return sorted(near, key=size)

    def best(self) -> tuple[int, Any, pd.DataFrame]:
        """The number of the best row, its state, and every probe, the best one in the column
        chosen. The weights are put back. Of no probe at all -1, None and an empty table.
        """
        self.restore()
        table = pd.DataFrame(self.rows)
        if not self.rows:
            return -1, None, table
        at = self._standing()[0]
        return at, self._held[at], table.assign(chosen=table.index == at)


class Joint:
    """Several layers that step together along a direction each: theta - lam * d on all of them.

    directions: layer -> d, shaped like it. It stands where an `EditableLayer` does.
    """

    def __init__(self, trial: Probing, directions: Directions):
        model = trial.network
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

    def __init__(self, trial: Probing, write):
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
