"""FT: go on training on the retain set alone, and hope that the rest is forgotten."""

from __future__ import annotations

import torch

from slugkit.method.losses import info_nce
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import SIZE, descend
from slugkit.unlearning.trial import Trial


def retain_loss(trial: Trial, batches) -> torch.Tensor:
    """InfoNCE of the next batch of the retain set."""
    return info_nce(*trial.encode(trial.retain, next(batches)), trial.clip.scale)


@method(
    "FT",
    source="fine-tuning on the retain set, as in Table 1 of Cai, Tan and Asif, ICML 2025",
    trains=True,
)
def fine_tuning(trial: Trial) -> None:
    """Minimise InfoNCE over the retain set. Nothing in it speaks of the concept."""
    batches = trial.retain.draws(2 * SIZE, distinct=True)
    descend(trial, lambda: retain_loss(trial, batches), 2 * SIZE)
