"""A closed form that needs no pictures: take the concept's name out of the text projection, along
a direction in which the other captions have almost no part.
"""

from __future__ import annotations

import torch

from slugkit.base import SettingError
from slugkit.models.activations import read_moments
from slugkit.unlearning.methods.registry import method
from slugkit.unlearning.probing import Joint
from slugkit.unlearning.trial import Trial

LAYER = "text_projection"
ENERGIES = (0.9, 0.99, 0.999, 0.9999)
"""Shares of the retain captions' second moment whose directions are left alone."""


def null_space_direction(
    weight: torch.Tensor, a_forget: torch.Tensor, a_retain: torch.Tensor, energy: float
) -> torch.Tensor:
    """D = q (W^T q)^T, so that W - s D reads (1 - s) times what it read along q.

    q is the unit direction in the retain set's null space along which the concept's captions are
    largest: the first eigenvector of P A_f P, where P takes out the eigenvectors of A_r that hold
    `energy` of its trace.

    weight: W, (in, out), of a layer that computes x W. a_forget, a_retain: (in, in). Returns (in,
    out), float32. AlphaEdit (Fang et al. 2025) projects an edit likewise; UCE (Gandikota et al.
    2024) has the closed form with a penalty in the place of the projection.
    """
    values, vectors = torch.linalg.eigh(a_retain)
    values, vectors = values.flip(0), vectors.flip(1)
    before = (values.cumsum(0) - values) / values.sum()  # what those before each one hold
    free = vectors[:, (before >= energy - 1e-12) | (before == before[-1])]
    _, inside = torch.linalg.eigh(free.T @ a_forget @ free)
    q = (free @ inside[:, -1]).float().to(weight.device)
    return torch.outer(q, weight.float().T @ q)


@method(
    "null space",
    source="after AlphaEdit (Fang et al., ICLR 2025) and UCE (Gandikota et al., WACV 2024)",
    towers=("text",),
)
def null_space(trial: Trial) -> None:
    """Search how far to step along the direction of each energy, from s = 1 on, which takes the
    direction out; beyond 1 it is turned round, which the closed form of neither paper does. It
    reads the captions of both sets, forwards alone.
    """
    if LAYER not in trial.originals:
        raise SettingError(
            f"The model keeps no matrix named {LAYER}; one of open_clip's own CLIPs was expected."
            " Choose another method."
        )
    own = read_moments(trial.clip, trial._forget, [LAYER])[LAYER].cpu()
    others = trial.side.moments([LAYER])[LAYER].cpu()
    trial.remarks.append("it takes no gradient: captions are read forwards, pictures not at all")
    for energy in ENERGIES:
        direction = null_space_direction(trial.originals[LAYER], own, others, energy)
        trials = max(1, trial.budget.probes // len(ENERGIES))
        trial.search(Joint(trial, {LAYER: direction}), 1.0, trials, energy=energy)
