"""Step directions made of a gradient and of what the retain set's inputs and outputs look like at the layer."""

from __future__ import annotations

import math

import torch

from slugkit.base import GradientError, SettingError, wide


def off_span(direction: torch.Tensor, covariance: torch.Tensor, energy: float) -> torch.Tensor:
    """The part of a step direction that does nothing to the inputs the retain set spans: d (I - U U^T).

    direction: (out, ...) of a layer that multiplies its inputs from the left. covariance: (d, d) second moment of the retain set's
    inputs, d = the product of the other axes. energy: 0 to 1; U holds the leading eigenvectors that carry this share of it, 0
    none of them. Returns a tensor shaped like `direction`, float32. Raises SettingError, GradientError where nothing is left.
    """
    if not 0 <= energy < 1:
        raise SettingError(f"energy is {energy}; a share of 0 or more and less than 1 was expected: at 1 no direction is left.")
    values, vectors = torch.linalg.eigh(wide(covariance, direction.device))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    before = torch.cat([values.new_zeros(1), values.cumsum(0)[:-1]]) / values.sum().clamp(min=1e-300)
    span = vectors[:, before < energy] if energy else vectors[:, :0]
    flat = wide(direction.detach()).flatten(1)
    left = flat - (flat @ span) @ span.T
    if not float(left.norm()) > 1e-9 * float(flat.norm()):
        raise GradientError(f"nothing of the direction is left off the span of the retain set's inputs at energy {energy}; take a smaller one.")
    return left.float().reshape(direction.shape).to(direction.device)


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
