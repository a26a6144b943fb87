"""The step direction of SLUG-R, made of the forget gradient and of what the layer reads of the
retain set.
"""

from __future__ import annotations

import torch

from slugkit.base import SettingError, wide
from slugkit.method.layers import weight_of

PROJECTIONS = ("text_projection", "visual.proj")
"""Weights that open_clip keeps as (in, out), so that they multiply their inputs from the right."""


def retain_aware(direction: torch.Tensor, inputs: torch.Tensor, damping: float) -> torch.Tensor:
    """SLUG-R's step direction, which the retain set hardly feels: d = g_f (A + delta mean(diag A)
    I)^-1.

    Of all steps D with the same first-order effect <g_f, D> on the forget loss it has the smallest
    tr(D A D^T), the mean square by which the layer's output moves on the retain set, plus the
    damping's share of its own size. The idea is not new: ROME (Meng et al. 2022) and MEMIT (2023)
    weigh an edit by the inverse second moment of the keys; Adam-NSCL (Wang et al. 2021), GPM (Saha
    et al. 2021) and AlphaEdit (Fang et al. 2025) project onto the null space of the inputs, which
    is the limit of no damping; SPEED and Double Projections (both 2025) do so for diffusion.

    Args:
        direction: g_f, (out, ...), of a layer that multiplies its inputs from the left.
        inputs: A, (in, in), second moment of what the layer reads of the retain set, in = the
            product of the direction's other axes.
        damping: delta, above 0; large keeps g_f as it is.

    Returns:
        A tensor of the shape and the norm of `direction`, float32.

    Raises:
        SettingError: for a damping that is not above 0.
    """
    if not damping > 0:
        raise SettingError(f"damping is {damping}; a number above 0 was expected, such as 0.01.")
    g, moment = wide(direction.detach()), wide(inputs, direction.device)
    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    damped = moment + damping * moment.diagonal().mean() * eye
    d = torch.linalg.solve(damped, g.flatten(1).T).T
    d = d * (g.norm() / d.norm().clamp(min=1e-300))
    return d.float().reshape(direction.shape).to(direction.device)


def from_the_left(layer: str, direction: torch.Tensor) -> torch.Tensor:
    """The direction as (out, in), so that the layer multiplies its inputs from the left."""
    return direction.T if layer in PROJECTIONS else direction.flatten(1)


def retain_aware_directions(
    gradient: dict[str, torch.Tensor], moments: dict[str, torch.Tensor], damping: float
) -> dict[str, torch.Tensor]:
    """SLUG-R's direction for every layer of `moments` (`slugkit.models.activations.read_moments`),
    see `retain_aware`; a layer may be a part of a packed q/k/v. gradient: weight -> g_f.
    """
    found = {}
    for layer, moment in moments.items():
        g = weight_of(gradient, layer)
        turned = layer in PROJECTIONS
        d = retain_aware(g.T if turned else g, moment, damping)
        found[layer] = d.T.contiguous() if turned else d
    return found
