"""What the towers multiply in: four names, what each means on a GPU and on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Name -> what autocast computes the towers' products in; None leaves them in the weights' own
type.

fp32: float32 products, on a GPU too, where torch by itself lets convolutions round to TF32. tf32:
float32 weights and sums whose factors a GPU rounds to 10 bits of mantissa; elsewhere the same as
fp32.
"""


@contextmanager
def multiplying(precision: str = "fp32") -> Iterator[None]:
    """Within the block, backward passes included, float32 products on a GPU are what `precision`
    says.

    precision: a key of `PRECISIONS`; all but "tf32" keep float32 products as they are. The
    process's own settings come back afterwards.
    """
    units = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [unit.allow_tf32 for unit in units]
    try:
        for unit in units:
            unit.allow_tf32 = precision == "tf32"
        yield
    finally:
        for unit, allowed in zip(units, before, strict=True):
            unit.allow_tf32 = allowed
