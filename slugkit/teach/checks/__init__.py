"""Checks of the exercises. Each takes the reader's function, tries it, and prints "N checks passed" or raises
CheckFailed.

A failed check names the likely slip where the wrong answer equals that of a well-known mistake. NotImplementedError
of an unsolved exercise passes through unchanged.
"""

from slugkit.teach.checks.answers import counterweight, name_outcome
from slugkit.teach.checks.generated import guided, unlearning_scores
from slugkit.teach.checks.gradients import forget_loss, mean_of_batches, retain_loss
from slugkit.teach.checks.ranking import alignment, cosine, importance, pareto
from slugkit.teach.checks.scores import accuracy_at_k, wilson, zero_shot
from slugkit.teach.checks.sets import concept_captions, disjoint, distinct_batches
from slugkit.teach.checks.steps import next_lam, one_step, relative_step
from slugkit.teach.checks.together import added_steps, retain_aware

__all__ = [
    "accuracy_at_k",
    "added_steps",
    "alignment",
    "concept_captions",
    "cosine",
    "counterweight",
    "disjoint",
    "distinct_batches",
    "forget_loss",
    "guided",
    "importance",
    "mean_of_batches",
    "name_outcome",
    "next_lam",
    "one_step",
    "pareto",
    "relative_step",
    "retain_aware",
    "retain_loss",
    "unlearning_scores",
    "wilson",
    "zero_shot",
]
