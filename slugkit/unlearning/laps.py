"""What a call of `unlearn` took."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import pandas as pd


class Laps:
    """Seconds by stage: `with laps("search"): ...`."""

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[stage] = perf_counter() - start

    def costs(self, pairs: int, table: pd.DataFrame, peak: list[int]) -> dict[str, dict]:
        """The fields of a `Result` that say what it took."""
        costs = {"pairs": pairs, "probes": len(table), "seconds": sum(self.seconds.values())}
        return {"seconds": self.seconds, "costs": costs | {"peak_mb": peak[0]}}
