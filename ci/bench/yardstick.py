"""How fast this machine is: float32 matrix products of one fixed size for a second, on one thread
and on all that it may use. Times in notes and tables are quoted beside it.

python ci/bench/yardstick.py
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from slugkit.base import usable_cpus

SIZE = 512


def gflops(threads: int, seconds: float = 1.0) -> float:
    """Billions of floating-point operations a second: the best fifth of the products counts, so
    that a neighbour's burst does not.
    """
    torch.set_num_threads(threads)
    a, b = (torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    took, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(took) < 10:
        start = time.perf_counter()
        a @ b
        took.append(time.perf_counter() - start)
    best = sorted(took[2:])[: max(1, len(took) // 5)]
    return 2 * SIZE**3 / (sum(best) / len(best)) / 1e9


if __name__ == "__main__":
    most = usable_cpus()
    for threads in sorted({1, most}):
        print(f"yardstick: {gflops(threads):.0f} GFLOP/s in float32 on {threads} of {most} threads")
