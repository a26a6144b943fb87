"""Taking the edit away: the published tower put back, and the patch taken off by its file."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory

import torch

from slugkit import patch
from slugkit.experiments.stress.case import Case, measured
from slugkit.method.layers import tower_of
from slugkit.models import Clip


@torch.no_grad()
def tower_put_back(case: Case) -> Clip:
    """A copy with the edited tower's weights as they were published."""
    clip, published = case.copy(), dict(case.unedited.model.named_parameters())
    for name, weight in clip.model.named_parameters():
        if tower_of(name) == case.tower:
            weight.copy_(published[name])
    return clip


@torch.no_grad()
def patch_taken_off(case: Case) -> Clip:
    """A copy from which the edit is taken off with nothing but its published files: theta +
    lambda * d, in the order in which the layers lie.
    """
    clip = case.copy()
    with TemporaryDirectory() as folder:
        parts = getattr(case.edit, "patches", [case.edit])
        for number, each in enumerate(parts):
            read = patch.load(each.save(f"{folder}/{number}.safetensors"))
            weight = clip.model.get_parameter(read.layer)
            weight.add_(read.lam * read.direction.to(weight.device))
    return clip


def undoing(case: Case) -> Iterator[dict]:
    """Only of an edit: of the unedited model and the oracle there is nothing to undo."""
    if case.edit is None:
        return
    ways = {"tower put back": tower_put_back, "patch taken off": patch_taken_off}
    for setting, way in ways.items():
        yield {"setting": setting, **measured(way(case), case.exam)}
