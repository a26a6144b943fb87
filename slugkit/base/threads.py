"""Work that releases Python's lock, such as decoding pictures, on several threads."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

Item, Made = TypeVar("Item"), TypeVar("Made")
MOST = 16


def cores() -> int:
    """Cores that this process may use, 1 or more."""
    usable = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    return len(usable(0)) if usable else os.cpu_count() or 1


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """One pool a process: a forked child has none of its parent's threads."""
    return ThreadPoolExecutor(min(MOST, cores()), "slugkit")


def each(make: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """`make` of every item, in order, on as many threads as there are cores (at most 16).

    The first error that `make` raises is raised here. `make` itself must not call `each`.
    """
    return list(_pool(os.getpid()).map(make, items))
