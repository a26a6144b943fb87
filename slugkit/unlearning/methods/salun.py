"""SalUn: change only the entries that matter to the concept."""

from __future__ import annotations

import torch

from slugkit.method.losses import mean_cosine
from slugkit.unlearning.methods.fine_tuning import retain_loss
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import SIZE, descend
from slugkit.unlearning.result import Directions
from slugkit.unlearning.trial import Trial

SHARE = 0.5
"""Share of the entries that may change, the paper's usual one and that of the authors' code."""


def saliency_mask(gradient: Directions, share: float = SHARE) -> Directions:
    """1 for the entries with the largest |gradient| over all layers, 0 elsewhere (Fan et al. 2024,
    equation 4). share: of the entries that are 1, above 0 to 1.
    """
    flat = torch.cat([g.abs().flatten() for g in gradient.values()])
    least = flat.kthvalue(max(1, round(len(flat) * (1 - share)))).values
    return {name: (g.abs() > least).to(g) for name, g in gradient.items()}


def _salun(trial: Trial, away, pairs: int) -> None:
    """away: the loss on the forget set, of so many pairs a step."""
    masks = saliency_mask(trial.g_forget)
    retain = trial.retain.draws(SIZE, distinct=True)

    def loss():
        return away() + retain_loss(trial, next(retain))

    descend(trial, loss, pairs + retain.size, masks)


@method("SalUn", source="Fan et al., SalUn, ICLR 2024, with random labels", trains=True)
def saliency_unlearning(trial: Trial) -> None:
    """Relabel the forget set at random, and train on it and on the retain set, masked.

    The paper speaks of classes and of diffusion. Chosen here: in the text tower the concept's
    captions are drawn towards random pictures of the retain set, in the vision tower its pictures
    towards random captions (mean cosine, to be raised), plus InfoNCE on the retain set.
    """
    forget = trial.forget.draws(min(SIZE, len(trial.retain)))
    random = trial.retain.draws(forget.size)

    def away():
        v, t = trial.encode(trial.forget, next(forget))
        rows = next(random)
        wrong = (trial.retain.v[rows], t) if trial.tower == "text" else (v, trial.retain.t[rows])
        return -mean_cosine(*wrong)

    _salun(trial, away, forget.size)


@method(
    "SalUn, ascent",
    source="SalUn as the authors' code of SLUG has it, Table 1 of ICML 2025",
    trains=True,
)
def masked_ascent(trial: Trial) -> None:
    """GAFT, masked: no relabelling, so it is not the SalUn of its own paper."""
    forget = trial.forget.draws(SIZE)

    def away():
        return mean_cosine(*trial.encode(trial.forget, next(forget)))

    _salun(trial, away, forget.size)
