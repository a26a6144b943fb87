"""What brings back what a CLIP was made to forget: one file a stress, the same for every model.

A stress is a function of a `Case` that yields a row a setting, its metrics in percent.
"""

from slugkit.experiments.stress import (
    features,
    membership,
    prompts,
    relearning,
    rounding,
    undoing,
    words,
)
from slugkit.experiments.stress.case import Case, Material, Stress

STRESSES: dict[str, Stress] = {
    "other words": words.other_words,
    "a prompt that is looked for": prompts.learned_prompts,
    "relearning": relearning.relearning,
    "rounded weights": rounding.rounded,
    "membership": membership.membership,
    "probes on features": features.probes,
    "undoing": undoing.undoing,
}
"""Every stress by its name, in the order of the tables; one of your own may be added."""
