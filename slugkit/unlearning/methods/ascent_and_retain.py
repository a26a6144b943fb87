"""GAFT: gradient ascent on the forget set, fine-tuning on the retain set."""

from __future__ import annotations

from slugkit.method.losses import info_nce, mean_cosine
from slugkit.unlearning.methods.fine_tuning import retain_loss
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import SIZE, descend
from slugkit.unlearning.trial import Trial


@method(
    "GAFT",
    source="gradient ascent with retain, Table 1 of Cai, Tan and Asif, ICML 2025",
    trains=True,
)
def ascent_and_retain(trial: Trial) -> None:
    """Minimise the mean cosine on the forget set plus InfoNCE on the retain set.

    The authors alternate whole passes, first over the one set, then over the other; the budget here
    is less than one pass over both, so each step takes a batch of either and their sum.
    """
    forget, retain = trial.forget.draws(SIZE), trial.retain.draws(SIZE, distinct=True)

    def loss():
        away = mean_cosine(*trial.encode(trial.forget, next(forget)))
        return away + retain_loss(trial, next(retain))

    descend(trial, loss, forget.size + retain.size)


@method(
    "GAFT, contrastive", source="the authors' code of SLUG, methods with the suffix _o", trains=True
)
def contrastive_ascent_and_retain(trial: Trial) -> None:
    """As GAFT, with the negated InfoNCE on the forget set."""
    forget, retain = trial.forget.draws(SIZE), trial.retain.draws(SIZE, distinct=True)

    def loss():
        away = -info_nce(*trial.encode(trial.forget, next(forget)), trial.clip.scale)
        return away + retain_loss(trial, next(retain))

    descend(trial, loss, forget.size + retain.size)
