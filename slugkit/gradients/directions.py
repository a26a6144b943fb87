"""Step directions made of a gradient and of what the retain set's inputs and outputs look like at the layer."""

from __future__ import annotations

import math

import torch

from slugkit.base import SettingError, wide
from slugkit.models.layers import weight_of

PROJECTIONS = ("text_projection", "visual.proj")
"""Weights that open_clip keeps as (in, out), so that they multiply their inputs from the right."""


def retain_aware(direction: torch.Tensor, inputs: torch.Tensor, damping: float) -> torch.Tensor:
    """SLUG-R's step direction, which the retain set hardly feels: d = g_f (A + delta mean(diag A) I)^-1.

    Of all steps D with the same first-order effect <g_f, D> on the forget loss it has the smallest
    tr(D A D^T), the mean square by which the layer's output moves on the retain set, plus the
    damping's share of its own size. The idea is not new: ROME (Meng et al. 2022) and MEMIT (2023)
    weigh an edit by the inverse second moment of the keys; Adam-NSCL (Wang et al. 2021), GPM (Saha
    et al. 2021) and AlphaEdit (Fang et al. 2025) project onto the null space of the inputs, which is
    the limit of no damping; SPEED and Double Projections (both 2025) do so for diffusion.

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
    return _as_long_as(_through(direction, inputs, None, damping), direction)


def retain_aware_directions(
    gradient: dict[str, torch.Tensor], moments: dict[str, torch.Tensor], damping: float
) -> dict[str, torch.Tensor]:
    """SLUG-R's direction for every layer of `moments`, see `retain_aware`.

    gradient: weight -> g_f. moments: of `slugkit.models.inputs.read_moments`; a layer may be a part of a packed q/k/v.
    """
    found = {}
    for layer, moment in moments.items():
        g = weight_of(gradient, layer)
        turned = layer in PROJECTIONS
        d = retain_aware(g.T if turned else g, moment, damping)
        found[layer] = d.T.contiguous() if turned else d
    return found


def preconditioned(direction: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor | None = None, damping: float = 0.1) -> torch.Tensor:
    """The step direction that the retain set feels least for what it does to the forget loss: P(d) = (G + damping g I)^-1 d (A + damping a I)^-1.

    Of all steps D of a layer with the same first-order effect <d, D> it has the smallest tr(D A D^T G), the mean square by which the step moves
    the retain set's answers to first order, plus the damping's share of its own size: K-FAC's approximation of the Fisher matrix by two
    factors (Martens and Grosse 2015), softer than `off_span` where inputs fill the whole space. direction d: (out, ...). inputs A: (in, in), second
    moment of what the layer reads of the retain set; outputs G: (out, out), that of the gradients of what it puts out; None leaves G out. a, g: their
    mean diagonal entries. damping: above 0, large keeps the direction as it is. Returns a tensor of the shape and the norm of `direction`,
    float32. Raises SettingError.
    """
    return _as_long_as(_through(direction, inputs, outputs, damping), direction)


def counterweighted(forget: torch.Tensor, retain: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor | None = None, damping: float = 0.1,
                    weight: float = 2.0) -> torch.Tensor:
    """The preconditioned forget gradient with the retain gradient as a counterweight: P(g_f) - weight max(0, <g_r, P(g_f)>) / <g_r, P(g_r)> P(g_r).

    Where forgetting one pushes all alike (say, towards "I don't know"), both gradients point the same way. At weight 0 it is `preconditioned`; at 1 a step
    leaves the retain set's mean as it is to first order; at 2 it raises that mean as much as P(g_f) would have lowered it, which pays for the second
    order, in which every step lowers it. Where the two point apart nothing is taken off. forget, retain: (out, ...), gradients of two quantities that both fall with what the model knows (mean
    log odds of the right answer); the rest as of `preconditioned`. Returns a tensor of the shape and the norm of `forget`, float32. Raises SettingError.
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise SettingError(f"the counterweight is {weight}; 0 or more was expected, such as 2.")
    retain = retain.detach().to(forget.device)
    p_f, p_r, g_r = *(_through(g, inputs, outputs, damping) for g in (forget, retain)), wide(retain).flatten(1)
    overlap = (g_r * p_f).sum().clamp(min=0) / (g_r * p_r).sum().clamp(min=1e-300)
    return _as_long_as(p_f - weight * overlap * p_r, forget)


def _through(direction: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor | None, damping: float) -> torch.Tensor:
    """P(d) of `preconditioned`: (out, in) float64."""
    if not damping > 0:
        raise SettingError(f"damping is {damping}; a number above 0 was expected, such as 0.1.")
    device, flat = direction.device, wide(direction.detach()).flatten(1)
    found = torch.linalg.solve(_damped(wide(inputs, device), damping), flat.T).T
    return found if outputs is None else torch.linalg.solve(_damped(wide(outputs, device), damping), found)


def _damped(moment: torch.Tensor, damping: float) -> torch.Tensor:
    return moment + damping * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)


def _as_long_as(found: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """`found` in the shape and with the norm of `direction`, float32."""
    length = wide(direction.detach()).norm() / found.norm().clamp(min=1e-300)
    return (found * length).float().reshape(direction.shape).to(direction.device)
