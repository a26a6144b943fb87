"""SSD: selective synaptic dampening, without any training."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from slugkit.method.losses import mean_cosine
from slugkit.unlearning.methods.fine_tuning import retain_loss
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import caption_log_p
from slugkit.unlearning.probing import Dial
from slugkit.unlearning.result import Directions
from slugkit.unlearning.trial import Trial

ALPHAS = (0.1, 0.3, 1.0, 10.0)
"""How many times more an entry must matter to the forget set than to the retain set; the paper and
the authors' code have 10, with which nothing is forgotten on a concept that is no report concept.
"""
MICRO = 16
"""Pairs of a micro-batch whose gradient is squared, as in the authors' code."""
BESIDE = 112
"""Captions of the retain set beside a forget pair's own: with it a micro-batch of training."""


def dampened(
    weights: Directions, i_forget: Directions, i_retain: Directions, alpha: float, strength: float
) -> Directions:
    """The weights with the selected entries multiplied by min(1, I_r / (strength I_f)) (Foster,
    Schoepf and Brintrup, AAAI 2024, equations 3 and 4, with lambda = 1 / strength).

    i_forget, i_retain: layer -> importance of every entry, 0 or more. Selected are those with I_f >
    alpha I_r.
    """
    found = {}
    for name, w in weights.items():
        f, r = i_forget[name], i_retain[name]
        factor = (r / (strength * f).clamp_min(1e-30)).clamp(max=1)
        found[name] = torch.where(f > alpha * r, w * factor, w)
    return found


def squares(trial: Trial, loss: Callable[[], torch.Tensor], batches: int) -> Directions:
    """Mean over micro-batches of the squared gradient of each entry, divided by its own mean over
    all entries, so that two losses compare.
    """
    sums = {name: torch.zeros_like(w) for name, w in trial.originals.items()}
    for _ in range(max(1, batches)):
        trial.clip.model.zero_grad(set_to_none=True)
        loss().backward()
        for name, w in trial.weights.items():
            sums[name] += w.grad.square()
    entries = sum(x.numel() for x in sums.values())
    mean = sum(float(x.sum()) for x in sums.values()) / entries
    return {name: x / max(mean, 1e-30) for name, x in sums.items()}


@method("SSD", source="Foster, Schoepf and Brintrup, Selective Synaptic Dampening, AAAI 2024")
def selective_dampening(trial: Trial) -> None:
    """Shrink what matters more to the forget set than to the retain set.

    The importance is the squared gradient of the loss that the model was trained with, as in the
    paper: InfoNCE on the retain set (the paper takes all data); of the forget set, whose captions
    all name the concept, what InfoNCE asks of each pair, its caption among captions of the retain
    set. Chosen here: either is divided by its mean; for each alpha the strength is searched from 1
    on, doubling and bisecting.
    """
    scale, beside = trial.clip.scale, trial.retain.t[:BESIDE]
    _dampen(trial, lambda v, t: -caption_log_p(v, t, beside, scale).mean())


@method("SSD, cosine", source="SSD as the authors' code of SLUG has it, Table 1 of ICML 2025")
def cosine_dampening(trial: Trial) -> None:
    """As SSD, with SLUG's forget loss, the mean cosine, on the forget set."""
    _dampen(trial, mean_cosine)


def _dampen(trial: Trial, own: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
    """own: the loss whose squared gradient says what matters to the forget set."""
    forget = trial.forget.draws(MICRO)
    retain = trial.retain.draws(MICRO, distinct=True)

    def about():
        return own(*trial.encode(trial.forget, next(forget)))

    i_forget = squares(trial, about, len(trial.forget) // forget.size)
    rest = trial.pairs_left // retain.size
    i_retain = squares(trial, lambda: retain_loss(trial, next(retain)), rest)
    for alpha in ALPHAS:
        dial = Dial(trial, partial(dampened, trial.originals, i_forget, i_retain, alpha))
        trial.search(dial, 1.0, max(1, trial.budget.probes // len(ALPHAS)), alpha=alpha)
