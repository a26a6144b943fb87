"""How many threads a process computes with, and work that several threads share."""

import math
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")
MOST = 16

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""One thread that does not spin: processes of several threads slow each other down threefold, and
sums come out alike on machines of any size."""


def thread_environment(threads: int = 1) -> dict[str, str]:
    """Environment of a process with so many threads; what the user has set stays as it is."""
    wanted = ONE_THREAD | {"OMP_NUM_THREADS": str(threads)}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def control_groups(controllers: set[str], root: Path = Path("/")) -> list[tuple[Path, str]]:
    """Folder and controller of this process's control groups and of each group above them.

    Args:
        controllers: "" for version 2, names such as memory or cpu for version 1.
        root: the folder that holds proc/ and sys/. In a container the path of the group may be
            the host's: what lies at the top of the mount is then the container's own.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for _, names, path in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        for controller in sorted(controllers & set(names.split(","))):
            top = root / "sys/fs/cgroup" / controller
            own = top / path.strip("/")
            within = [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
            found += [(folder, controller) for folder in within]
    return found


def _quota(folder: Path, controller: str) -> float:
    """CPUs' worth of time that one control group allows; infinity where it sets no limit."""
    files = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controller else ("cpu.max",)
    try:
        most, period = " ".join((folder / name).read_text() for name in files).split()
        return int(most) / int(period) if int(most) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use: taskset, cpuset, its container's quota, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    quotas = [_quota(*group) for group in control_groups({"", "cpu"}, root)]
    return max(1, math.ceil(min([allowed, *quotas])))


def bound_threads(root: Path = Path("/")) -> None:
    """Let torch, once loaded, take at most `usable_cpus` threads; OMP_NUM_THREADS stands."""
    torch, most = sys.modules.get("torch"), usable_cpus(root)
    if torch is not None and "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > most:
        torch.set_num_threads(most)


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """One pool a process: a forked child has none of its parent's threads."""
    return ThreadPoolExecutor(min(MOST, usable_cpus()), "slugkit")


def each(make: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """`make` of every item, in order, on several threads; its first error is raised here.

    For work that releases Python's lock, such as decoding pictures. `make` must not call `each`.
    """
    return list(_pool(os.getpid()).map(make, items))
