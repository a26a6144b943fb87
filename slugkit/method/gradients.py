"""The mean gradient over a set, in little memory: one sum in float32, one part at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from slugkit.base import EmptySetError, GradientError, progress

Gradient = dict[str, torch.Tensor]


def mean_gradient(
    model: torch.nn.Module,
    loss_fn: Callable[[Any], torch.Tensor],
    parts: Collection,
    what: str = "gradient",
    weights: Iterable[str] | None = None,
    scale: float = 1.0,
) -> Gradient:
    """Gradient of the loss averaged over samples: sum_p n_p grad loss(p) / sum_p n_p.

    The model's weights stay as they are. Memory beside them: one copy of the gradient and the
    activations of one part.

    Args:
        loss_fn: a part -> its mean loss.
        parts: len(part) is its number of samples.
        what: its name in messages and on the progress bar.
        weights: names of the parameters that are wanted, which is faster where they are in one
            tower; None takes all that learn.
        scale: what the loss is multiplied by on its way back, for fp16; it is divided out again.

    Returns:
        Parameter name -> float32 tensor shaped like the weight.

    Raises:
        GradientError: a gradient is not finite; names the layer.
        EmptySetError: there is no part.
    """
    named = dict(model.named_parameters())
    wanted = named if weights is None else {name: named[name] for name in weights}
    seen, first = 0, 0
    model.zero_grad(set_to_none=True)
    with _summing(named, wanted) as sums:
        for part in progress(parts, what):
            # parts count by their share of the first one: sums of large numbers overflow in fp16
            first = first or len(part)
            (scale * (len(part) / first) * loss_fn(part)).backward()
            seen += len(part)
            if scale != 1:
                check_finite(sums, what)
    if not seen:
        raise EmptySetError(
            f"There is no batch to take the {what} over; expected at least two pairs with distinct"
            " captions."
        )
    for name, w in wanted.items():
        if name not in sums:
            sums[name] = torch.zeros_like(w, dtype=torch.float32)
    total = {name: sums[name].div_(seen / first * scale) for name in wanted}
    check_finite(total, what)
    return total


@contextmanager
def _summing(
    named: dict[str, torch.nn.Parameter], wanted: dict[str, torch.nn.Parameter]
) -> Iterator[Gradient]:
    """Within the block only the wanted weights learn; yields the float32 sums of their gradients,
    each of which is added and freed the moment it is complete.
    """
    learn = {name: w.requires_grad for name, w in named.items()}
    sums: Gradient = {}

    def add(name: str, w: torch.Tensor) -> None:
        assert w.grad is not None
        sums[name] = sums[name].add_(w.grad) if name in sums else w.grad.float()
        w.grad = None

    hooks = []
    try:
        for name, w in named.items():
            w.requires_grad_(learn[name] and name in wanted)
            if w.requires_grad:
                hooks.append(w.register_post_accumulate_grad_hook(partial(add, name)))
        yield sums
    finally:
        for hook in hooks:
            hook.remove()
        for name, w in named.items():
            w.requires_grad_(learn[name])


def check_finite(gradient: Gradient, what: str = "gradient") -> None:
    """Raise GradientError naming the first layer whose gradient holds NaN or infinity."""
    if not gradient or torch.isfinite(torch.nn.utils.get_total_norm(gradient.values(), 1.0)):
        return
    for name, g in gradient.items():
        bad = int((~torch.isfinite(g)).sum())
        if bad:
            raise GradientError(
                f"The {what} of layer {name!r} has {bad} entries that are not finite; expected"
                " numbers. Look for broken pictures in the set, or compute in float32."
            )


def agreement_of_draws(
    pieces: list[tuple[int, torch.Tensor]], draws: int = 50, seed: int = 0
) -> list[dict[str, float]]:
    """How much the mean gradients of two draws agree that share no pair, for growing draws.

    pieces: (pairs, mean gradient over them) of micro-batches that share no pair; they are dealt to
    two sides `draws` times. Returns one row for each number of micro-batches a side: samples (pairs
    a side, on average), cosine (-1..1, the mean over the deals); none for fewer than two
    micro-batches.
    """
    if len(pieces) < 2:
        return []
    sizes = torch.tensor([float(n) for n, _ in pieces], dtype=torch.float64)
    flat = torch.stack([g.flatten() for _, g in pieces]).double() * sizes[:, None]
    products, generator = flat @ flat.T, torch.Generator().manual_seed(seed)
    cosines = torch.zeros(draws, len(pieces) // 2, dtype=torch.float64)
    for deal in range(draws):
        order = torch.randperm(len(pieces), generator=generator)
        for k in range(cosines.shape[1]):
            one, other = order[: k + 1], order[-k - 1 :]
            dot = products[one][:, other].sum()
            squares = products[one][:, one].sum() * products[other][:, other].sum()
            cosines[deal, k] = dot / squares.sqrt().clamp_min(1e-300)
    each = sizes.mean().item()
    found = enumerate(cosines.mean(0).tolist(), start=1)
    return [{"samples": k * each, "cosine": value} for k, value in found]
