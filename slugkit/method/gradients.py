"""The mean gradient over a set, in little memory: one sum in float32, one part at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from slugkit.base import EmptySetError, GradientError, progress


def mean_gradient(
    model: torch.nn.Module,
    loss_fn: Callable[[Any], torch.Tensor],
    parts: Collection,
    what: str = "gradient",
    weights: Iterable[str] | None = None,
    scale: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Gradient of the loss averaged over samples.

    Returns {parameter name: float32 tensor shaped like the weight}.

    loss_fn maps a part to its mean loss, len(part) is its number of samples. Gradients are cleared
    before and afterwards; the model's weights stay as they are. weights: names of the parameters
    that are wanted, which is faster where they are in one tower; None takes all that learn.
    scale: what the loss is multiplied by on its way back, for fp16; it is divided out again. Memory
    beside the weights: one copy of the gradient and the activations of one part. Raises
    GradientError, naming the layer, when a gradient is not finite; EmptySetError without a part.
    """
    seen, first = 0, 0
    with learning(model, weights) as wanted, _summed(wanted) as sums:
        model.zero_grad(set_to_none=True)
        for part in progress(parts, what):
            # parts count by their share of the first one: sums of large numbers overflow in fp16
            first = first or len(part)
            (scale * (len(part) / first) * loss_fn(part)).backward()
            seen += len(part)
            if scale != 1:
                check_finite(sums(), what)
        total = {name: g.div_(seen / first * scale) for name, g in sums().items()} if seen else {}
        model.zero_grad(set_to_none=True)
    if not seen:
        raise EmptySetError(
            f"There is no batch to take the {what} over; expected at least two pairs with distinct"
            " captions."
        )
    check_finite(total, what)
    return total


@contextmanager
def _summed(
    wanted: dict[str, torch.nn.Parameter],
) -> Iterator[Callable[[], dict[str, torch.Tensor]]]:
    """Within the block, the sums of the weights' gradients so far, in float32: of float32 weights
    autograd's own `.grad`.

    A weight in half precision would be summed in half precision, so each of its gradients is added
    to a float32 sum and freed the moment it is complete.
    """
    own: dict[str, torch.Tensor] = {}

    def adder(name: str) -> Callable[[torch.nn.Parameter], None]:
        def add(w: torch.nn.Parameter) -> None:
            assert w.grad is not None
            own[name] = own[name].add_(w.grad) if name in own else w.grad.float()
            w.grad = None

        return add

    hooks = [
        w.register_post_accumulate_grad_hook(adder(name))
        for name, w in wanted.items()
        if w.requires_grad and w.dtype != torch.float32
    ]

    def sums() -> dict[str, torch.Tensor]:
        found = {name: own.get(name, w.grad) for name, w in wanted.items()}
        return {
            name: torch.zeros_like(wanted[name], dtype=torch.float32) if g is None else g
            for name, g in found.items()
        }

    try:
        yield sums
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def learning(
    model: torch.nn.Module, weights: Iterable[str] | None
) -> Iterator[dict[str, torch.nn.Parameter]]:
    """Within the block these parameters alone learn; yields them by name.

    None leaves all as they are.
    """
    named = dict(model.named_parameters())
    learn = {name: w.requires_grad for name, w in named.items()}
    wanted = named if weights is None else {name: named[name] for name in weights}
    try:
        for name, w in named.items():
            w.requires_grad_(learn[name] and name in wanted)
        yield wanted
    finally:
        for name, w in named.items():
            w.requires_grad_(learn[name])


def check_finite(gradient: dict[str, torch.Tensor], what: str = "gradient") -> None:
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

    Args:
        pieces: (pairs, mean gradient over them) of micro-batches that share no pair.
        draws: how often the micro-batches are dealt to two sides anew; the cosine is the mean.
        seed: of the deals.

    Returns:
        One row for each number of micro-batches a side: samples (pairs a side, on average), cosine
        (-1..1). None for fewer than two micro-batches.
    """
    sizes = torch.tensor([float(n) for n, _ in pieces], dtype=torch.float64)
    if len(pieces) < 2:
        return []
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
