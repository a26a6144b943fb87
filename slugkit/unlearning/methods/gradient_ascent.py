"""GA: gradient ascent on the forget set, with either of the two losses."""

from __future__ import annotations

from slugkit.method.losses import info_nce, mean_cosine
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.methods.training import SIZE, descend
from slugkit.unlearning.trial import Trial


@method("GA", source="gradient ascent, as in Table 1 of Cai, Tan and Asif, ICML 2025", trains=True)
def gradient_ascent(trial: Trial) -> None:
    """Minimise the mean cosine of the concept's pictures with their captions: SLUG's own forget
    loss, on all layers and in many steps.
    """
    batches = trial.forget.draws(SIZE)
    descend(trial, lambda: mean_cosine(*trial.encode(trial.forget, next(batches))), batches.size)


@method(
    "GA, contrastive", source="the authors' code of SLUG, methods with the suffix _o", trains=True
)
def contrastive_ascent(trial: Trial) -> None:
    """Maximise InfoNCE over batches of the forget set. All its captions name the concept, so the
    loss asks that each picture be further from its own caption than from the others' of the batch.
    """
    batches = trial.forget.draws(SIZE)

    def loss():
        return -info_nce(*trial.encode(trial.forget, next(batches)), trial.clip.scale)

    descend(trial, loss, batches.size)
