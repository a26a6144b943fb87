"""Weights in fewer bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from slugkit.experiments.stress.case import Case, measured


def in_bits(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A weight rounded to so many bits, each row by its own largest entry, and back: round to
    nearest, symmetric. Weights of less than two axes are left as they are.
    """
    if weight.ndim < 2:
        return weight
    most = 2 ** (bits - 1) - 1
    flat = weight.reshape(len(weight), -1).float()
    scale = flat.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / most
    zero = torch.zeros(len(flat), dtype=torch.int32, device=flat.device)
    told = torch.fake_quantize_per_channel_affine(flat, scale, zero, 0, -most, most)
    return told.reshape(weight.shape).to(weight.dtype)


FORMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as it is": lambda w: w,
    "fp16": lambda w: w.to(torch.float16).to(w.dtype),
    "bf16": lambda w: w.to(torch.bfloat16).to(w.dtype),
    "int8": lambda w: in_bits(w, 8),
    "int4": lambda w: in_bits(w, 4),
}
"""What becomes of every weight; sums are in float32 throughout."""


@torch.no_grad()
def rounded(case: Case) -> Iterator[dict]:
    """Every weight of the edited model in fewer bits: what Zhang et al. (ICLR 2025) found to bring
    back what language models had unlearned.
    """
    for setting, form in FORMS.items():
        clip = case.copy()
        for weight in clip.model.parameters():
            weight.copy_(form(weight))
        yield {"setting": setting, **measured(clip, case.exam)}
