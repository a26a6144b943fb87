"""FT: go on training on the retain set alone, and hope that the rest is forgotten."""

from __future__ import annotations

import torch

from slugkit.method.losses import info_nce, sigmoid_loss
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import SIZE, descend
from slugkit.unlearning.trial import Trial


def retain_loss(trial: Trial, rows: list[int]) -> torch.Tensor:
    """What the model was trained with, of a batch of the retain set: InfoNCE, or a SigLIP's own."""
    v, t = trial.encode(trial.retain, rows)
    if trial.clip.bias is None:
        return info_nce(v, t, trial.clip.scale)
    return sigmoid_loss(v, t, trial.clip.scale, trial.clip.bias)


@method(
    "FT",
    source="fine-tuning on the retain set, as in Table 1 of Cai, Tan and Asif, ICML 2025",
    trains=True,
)
def fine_tuning(trial: Trial) -> None:
    """Minimise InfoNCE over the retain set. Nothing in it speaks of the concept."""
    batches = trial.retain.draws(2 * SIZE, distinct=True)
    descend(trial, lambda: retain_loss(trial, next(batches)), batches.size)
