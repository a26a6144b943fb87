"""NPO: an ascent that ends by itself where the concept is forgotten."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from slugkit.unlearning.methods.fine_tuning import retain_loss
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import SIZE, caption_log_p, descend
from slugkit.unlearning.trial import Trial

BETA = 0.1


def npo_loss(log_p: torch.Tensor, log_ref: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """-2 / beta E log sigmoid(-beta (log p - log p_ref)) (Zhang et al. 2024, equation 3).

    log_p, log_ref: (n,) log probabilities of what is to be forgotten, by the model and by the
    unedited one. As beta goes to 0 its gradient is that of E log p, plain ascent; where p has
    become much smaller than p_ref it vanishes. Returns a scalar >= 0.
    """
    return -2 / beta * F.logsigmoid(-beta * (log_p - log_ref)).mean()


@method(
    "NPO",
    source="Zhang, Lin, Bai and Mei, Negative Preference Optimization, COLM 2024",
    trains=True,
)
def negative_preference(trial: Trial) -> None:
    """NPO on the forget set plus InfoNCE on the retain set (the paper's NPO+RT).

    The paper speaks of language models; a CLIP has no p of its own. Chosen here: the zero-shot
    probability of a picture's own caption among it and the captions of the step's retain batch.
    """
    forget, retain = trial.forget.draws(SIZE), trial.retain.draws(SIZE, distinct=True)

    scale = trial.clip.scale

    def loss():
        rows, others = next(forget), next(retain)
        v, t = trial.encode(trial.forget, rows)
        beside = trial.retain.t[others]
        reference = caption_log_p(trial.forget.v[rows], trial.forget.t[rows], beside, scale)
        now = caption_log_p(v, t, beside, scale)
        return npo_loss(now, reference) + retain_loss(trial, others)

    descend(trial, loss, forget.size + retain.size)
