"""Checks of the exercises: each tries the reader's function and prints "N checks passed".

A wrong answer raises CheckFailed, which names the likely slip where the answer equals that of a
well-known mistake. NotImplementedError of an unsolved exercise passes through unchanged.
"""

from slugkit.workbook.teach.checks.answers import (
    accuracy_at_k,
    concept_captions,
    disjoint,
    distinct_batches,
    lost_names,
    name_outcome,
    next_lam,
    pair_experiment,
    pareto,
    unlearning_scores,
    wilson,
    zero_shot,
)
from slugkit.workbook.teach.checks.experiments import (
    another_person,
    batch_fronts,
    batch_size_table,
    dampings,
    other_kinds,
    retain_size_table,
    two_concepts,
    two_criteria,
)
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
from slugkit.workbook.teach.checks.methods import dampened, in_bits, npo_weight, way_back
