"""The two gradients of the method: one over the forget set, one over the retain set, each taken
once.

Sign: g_f is the gradient of the mean cosine of the pairs to forget, so that theta - lambda * g_f
lowers it (design, section 4; the paper writes the same step with the negated loss).
"""

from slugkit.gradients.accumulate import (
    Ahead,
    check_finite,
    forget_gradient,
    gradient_of,
    learning,
    mean_gradient,
    retain_gradient,
)
from slugkit.gradients.directions import retain_aware, retain_aware_directions
from slugkit.gradients.files import join_safetensors, save_gradient
from slugkit.gradients.losses import (
    KINDS,
    PRECISIONS,
    Batch,
    ChunkedRetainLoss,
    batch_of,
    batches,
    distinct_batches,
    encoded,
    forget_loss,
    info_nce,
    loss_of,
    mean_cosine,
    micro_batches,
    retain_loss,
    sigmoid_loss,
)


def __getattr__(name: str):
    # imported when asked for: `python -m slugkit.gradients.workers` runs that file itself
    if name == "gradients_by_workers":
        from slugkit.gradients.workers import gradients_by_workers

        return gradients_by_workers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
