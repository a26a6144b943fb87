"""One training loop for all studio models: AdamW, cosine learning rate, a bar, and a state from
which a killed training goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch

from slugkit.base import SettingError, progress, read_hashed, seed_everything, write_hashed

KEEP_EVERY = 100
"""Steps between two checkpoints."""


class Schedule(Protocol):
    """What the loop reads of a recipe (a dataclass): steps, peak learning rate, weight decay of
    matrices, warm-up steps.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    warmup: int


def make_optimizer(model: torch.nn.Module, recipe: Schedule) -> torch.optim.AdamW:
    """AdamW in open_clip's setting: weight decay on matrices only, betas 0.9 and 0.98."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        eps=1e-6,
    )


def learning_rate(recipe: Schedule, step: int) -> float:
    """Linear warm-up, then a cosine from the peak down to 2 % of it."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    return recipe.learning_rate * (
        0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    )


def save_state(
    path: Path,
    modules: dict[str, torch.nn.Module],
    optimizer,
    step: int,
    loss: float,
    recipe: Schedule,
) -> None:
    """Write weights, optimizer and step as safetensors with their hash, atomically."""
    tensors = {
        f"{name}.{k}": v for name, module in modules.items() for k, v in module.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    write_hashed(
        path,
        {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()},
        {"step": str(step), "loss": str(loss), "recipe": json.dumps(asdict(recipe))},
    )


def load_state(
    path: Path, modules: dict[str, torch.nn.Module], optimizer, recipe: Schedule
) -> tuple[int, float | None]:
    """Read what `save_state` wrote, in place; returns the step to go on with and the last loss.

    A file that is cut short or altered is not gone on from: step 0, and a word that says so. Raises
    SettingError for another recipe's state.
    """
    kept = read_hashed(path)
    if kept is None:
        print(f"The checkpoint {path.name} is cut short or altered; the training begins anew.")
        return 0, None
    tensors, header = kept
    if json.loads(header["recipe"]) != json.loads(json.dumps(asdict(recipe))):  # JSON has no tuples
        raise SettingError(
            f"The checkpoint {path.name} was made by another recipe. Remove it, or pass --no-resume"
            " to start anew."
        )
    whole = optimizer.state_dict()
    for name, module in modules.items():
        module.load_state_dict(
            {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        )
    state: dict = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": whole["param_groups"]})
    return int(header["step"]), float(header["loss"])


def fit(
    model: torch.nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    recipe: Schedule,
    seed: int,
    what: str,
    checkpoint: Path | None = None,
    after_step: Callable[[], None] | None = None,
    beside: dict[str, torch.nn.Module] | None = None,
) -> list[float]:
    """Train in place; returns the losses of the steps made now, or the last one of a training that
    was finished before.

    loss_at: step -> loss; random numbers are seeded by seed and step before it is called, so a
    resumed training sees what the straight one saw. after_step: called after each update. beside:
    further modules whose weights the checkpoint keeps, such as a running mean. checkpoint: where
    the state is kept every 100 steps, and resumed from.
    """
    optimizer, modules = make_optimizer(model, recipe), {"model": model, **(beside or {})}
    start, last = (
        load_state(checkpoint, modules, optimizer, recipe)
        if checkpoint is not None and checkpoint.is_file()
        else (0, None)
    )
    model.train()
    losses = [last] if start >= recipe.steps and last is not None else []
    for step in progress(range(start, recipe.steps), what):
        seed_everything(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if after_step is not None:
            after_step()
        losses.append(loss.item())
        if checkpoint is not None and (step + 1) % KEEP_EVERY == 0:
            save_state(checkpoint, modules, optimizer, step + 1, losses[-1], recipe)
    model.eval()
    return losses
