"""Checks of the exercises: each tries the reader's function and prints "N checks passed".

A wrong answer raises CheckFailed, which names the likely slip where the answer equals that of a
well-known mistake. NotImplementedError of an unsolved exercise passes through unchanged.
"""

from slugkit.workbook.teach.checks.draws import batch_size_table, retain_size_table
from slugkit.workbook.teach.checks.experiments import batch_fronts, two_criteria
from slugkit.workbook.teach.checks.formulas import (
    alignment,
    cosine,
    felt,
    forget_loss,
    guided,
    mean_of_batches,
    one_step,
    retain_aware,
    retain_loss,
    side_effect,
    take_one_off,
)
from slugkit.workbook.teach.checks.pictures import another_person, other_kinds
from slugkit.workbook.teach.checks.rules import (
    lost_names,
    name_outcome,
    next_lam,
    pair_experiment,
    pareto,
)
from slugkit.workbook.teach.checks.scores import accuracy_at_k, unlearning_scores, wilson, zero_shot
from slugkit.workbook.teach.checks.sets import concept_captions, disjoint, distinct_batches
from slugkit.workbook.teach.checks.tables import dampings, two_concepts
