"""What a machine computes on: the device that "auto" means, and float64 wherever there is one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from slugkit.base.errors import ModelLoadError
from slugkit.base.threads import bound_threads

if TYPE_CHECKING:
    import torch


def pick_device(device: str = "auto") -> torch.device:
    """auto: cuda if there is one, else mps, else cpu.

    Raises: ModelLoadError for a device that this machine lacks.
    """
    import torch

    bound_threads()
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name in there if there[name]), "cpu")
    target = torch.device(device)
    if not there.get(target.type, True):
        raise ModelLoadError(f"This machine has no device={device!r}. Use device='auto' or 'cpu'.")
    return target


def wide(tensor: torch.Tensor, device: torch.device | None = None) -> torch.Tensor:
    """The tensor in float64 on `device` or where it is; mps has no float64, the CPU stands in."""
    device = device or tensor.device
    return tensor.to("cpu" if device.type == "mps" else device).double()


def seed_everything(seed: int) -> None:
    """Seed python's, numpy's and torch's generators; seed: 0 to 4294967295."""
    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
