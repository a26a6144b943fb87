"""Checks of the exercises.

Each takes the reader's function, tries it, and prints "N checks passed" or raises CheckFailed.

A failed check names the likely slip where the wrong answer equals that of a well-known mistake.
NotImplementedError of an unsolved exercise passes through unchanged.
"""

from slugkit.workbook.teach.checks.answers import counterweight, name_outcome
from slugkit.workbook.teach.checks.generated import guided, unlearning_scores
from slugkit.workbook.teach.checks.gradients import forget_loss, mean_of_batches, retain_loss
from slugkit.workbook.teach.checks.ranking import alignment, cosine, importance, pareto
from slugkit.workbook.teach.checks.scores import accuracy_at_k, wilson, zero_shot
from slugkit.workbook.teach.checks.sets import concept_captions, disjoint, distinct_batches
from slugkit.workbook.teach.checks.steps import next_lam, one_step, relative_step
from slugkit.workbook.teach.checks.together import added_steps, retain_aware
