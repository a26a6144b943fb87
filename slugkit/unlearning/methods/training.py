"""What the methods that train have in common: AdamW from the unedited weights, a few times.

The authors' baselines (Cai, Tan and Asif, ICML 2025) train with AdamW, betas 0.9 and 0.98, eps
1e-6, and keep the first epoch that forgets. Here every run gets the same share of the pairs and of
the probes, every probed state may win, and the best is chosen by the rule that holds for all
methods (`Trial`). Weight decay, 0.1 there, is left out: over so few steps it does nothing, and a
mask (SalUn) has to hold. The rate is constant, since any step may be the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from slugkit.base import SettingError
from slugkit.models.precision import multiplying
from slugkit.unlearning.trial import Trial

RUNS = 4
"""Learning rates tried."""
FIRST, FACTOR = 0.02, math.sqrt(10)
"""By how much, relative to the weights, the first run's first step moves them, chosen on a concept
that is no report concept; by how much the rate is raised until a run forgets, or lowered until one
does not."""
SCALE = 1024.0
"""By how much the loss of a model in half precision is scaled at first; an overflow halves it."""
SIZE = 32
"""Pairs of a step, of the forget set and of the retain set each, as in the authors' code."""


class _Learned:
    """The weights that a run trains, in float32: the model's own, or copies of those in half.

    rate: AdamW's.
    """

    def __init__(self, trial: Trial, rate: float):
        self.weights = trial.weights
        self.half = any(w.dtype != torch.float32 for w in trial.weights.values())
        given = self.weights
        if self.half:
            given = self.copies = {name: w.detach().float() for name, w in given.items()}
        how = {"lr": rate, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.0}
        self.optimiser = torch.optim.AdamW(given.values(), **how)
        device = next(iter(given.values())).device.type
        self.scaler = torch.amp.GradScaler(device, SCALE, enabled=self.half)

    def step(self, loss: Callable[[], torch.Tensor], masks: dict[str, torch.Tensor]) -> None:
        """One step along the loss; of a half model none where the scaled gradient overflows."""
        for weight in self.weights.values():
            weight.grad = None
        with multiplying():
            self.scaler.scale(loss()).backward()
        for name, mask in masks.items():
            self.weights[name].grad.mul_(mask)
        if self.half:
            for name, copy in self.copies.items():
                copy.grad = self.weights[name].grad.float()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.half:
            with torch.no_grad():
                for name, copy in self.copies.items():
                    self.weights[name].copy_(copy)


def descend(
    trial: Trial,
    loss: Callable[[], torch.Tensor],
    pairs: int,
    masks: dict[str, torch.Tensor] | None = None,
) -> None:
    """Minimise a loss over the tower's layers, and probe on the way; the learning rate is searched
    as SLUG searches its step: towards the smallest that forgets.

    Args:
        loss: draws a batch of its own, encodes it with `Trial.encode`, and returns a scalar.
        pairs: what one call of it costs.
        masks: layer -> 0 or 1 for every entry; where it is 0 nothing changes.

    Weights in half precision are trained as float32 copies, whose rounded values the model holds,
    with PyTorch's own scaling of the loss.

    Raises:
        SettingError: a budget that allows no step.
    """
    steps = trial.pairs_left // (pairs * RUNS)
    if trial.probes_left < RUNS:
        raise SettingError(
            f"{trial.probes_left} probes are left; {RUNS} or more were expected, one for each"
            " learning rate. Allow more probes in the budget."
        )
    if steps < 1:
        raise SettingError(
            f"{trial.pairs_left} pairs are left; {pairs * RUNS} or more were expected, one step of"
            f" {pairs} pairs at each of {RUNS} learning rates. Allow more pairs in the budget."
        )
    probes = min(trial.probes_left // RUNS, steps)
    marks = set(np.linspace(0, steps, probes + 1)[1:].round().astype(int).tolist())
    # AdamW's first step moves every entry by the rate
    entries = sum(w.numel() for w in trial.originals.values())
    rate, low, high = FIRST * trial.size / math.sqrt(entries), 0.0, math.inf
    for _ in range(RUNS):
        trial.restore()
        forgotten, learned = False, _Learned(trial, rate)
        for step in range(1, steps + 1):
            learned.step(loss, masks or {})
            if step in marks:
                forgotten |= trial.probe(rate=rate, step=step)
                if forgotten and trial.dear:
                    trial.remarks.append("a run ends at its first state that forgets")
                    break
        low, high = (low, min(high, rate)) if forgotten else (max(low, rate), high)
        if low and math.isfinite(high):
            rate = math.sqrt(low * high)
        else:
            rate = rate / FACTOR if forgotten else rate * FACTOR


def caption_log_p(
    v: torch.Tensor, t: torch.Tensor, others: torch.Tensor, scale: float
) -> torch.Tensor:
    """Log probability of each picture's own caption among it and other captions.

    v, t: (n, d) pictures and their captions; others: (m, d); all of unit length. scale: exp(logit
    scale). Returns (n,), at most 0.
    """
    scores = scale * torch.cat([(v * t).sum(-1, keepdim=True), v @ others.T], dim=1)
    return F.log_softmax(scores, dim=1)[:, 0]
