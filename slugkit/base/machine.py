"""What this machine gives a process, and what processes take: device, threads, memory."""

from __future__ import annotations

import math
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

from slugkit.base.errors import ModelLoadError

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Made = TypeVar("Made")
MOST = 16
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""One thread that does not spin: processes of several threads slow each other down threefold, and
sums come out alike on machines of any size."""
CPU_FILES = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Files of limit and use of a control group, version 2 and 1, and the entry of memory.stat with
idle pages of files."""
NO_LIMIT = 2**62
"""Version 1 writes the largest multiple of a page below 2^63 where nothing limits a group."""


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


def thread_environment(threads: int = 1) -> dict[str, str]:
    """Environment of a process with so many threads; what the user has set stays as it is."""
    wanted = ONE_THREAD | {"OMP_NUM_THREADS": str(threads)}
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


def _control_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Folders of this process's control groups and of those above them; 0 version 2, 1 version 1.

    In a container a group's path may be the host's: what lies at the top of the mount is then the
    container's own.
    """
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                top = root / "sys/fs/cgroup" / controller
                own = top / path.strip("/")
                groups = (group for group in (own, *own.parents) if group.is_relative_to(top))
                yield from ((group, int(bool(controller))) for group in groups)


def _quota(group: Path, version: int) -> float:
    """CPUs' worth of time that a control group allows; infinity where it sets no limit."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        most, period = " ".join((group / name).read_text() for name in CPU_FILES[version]).split()
        if int(most) > 0:
            return int(most) / int(period)
    return math.inf


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use: taskset, cpuset, its container's quota, rounded up."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min([allowed, *starmap(_quota, _control_groups(root))])))


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


def _room(group: Path, version: int) -> list[int]:
    """Bytes left in a control group, 0 or more, as a list of one; empty without a limit."""
    limit, used, idle = MEMORY_FILES[version]
    with suppress(OSError, ValueError):
        most, taken = (int((group / name).read_text()) for name in (limit, used))
        lines = (group / "memory.stat").read_text().splitlines()
        statistics = dict(line.split() for line in lines)
        if most < NO_LIMIT:
            return [max(0, most - taken + int(statistics.get(idle, 0)))]
    return []


def group_rooms(root: Path = Path("/")) -> list[int]:
    """Bytes that this process's control groups, and those above, still let it take, where limited.

    Idle pages of files count as free: the kernel gives them up first.
    """
    return [room for group in _control_groups(root) for room in _room(*group)]


def free_ram() -> int:
    """Bytes that the machine or its control groups still allow a process, the less of them."""
    return min([psutil.virtual_memory().available, *group_rooms()])


@contextmanager
def peak_memory(children: bool = False, pid: int | None = None) -> Iterator[list[int]]:
    """Sample the resident memory of a process, or of its children together, while a block runs.

    Args: pid, None for this process. The list's one item is the peak so far in MB (10^6 bytes).
    """
    parent, over, peak = psutil.Process(pid), threading.Event(), [0]

    def watch() -> None:
        ended = False
        while not ended:
            with suppress(psutil.Error):
                processes = parent.children(recursive=True) if children else [parent]
                total = sum(process.memory_info().rss for process in processes)
                peak[0] = max(peak[0], round(total / 1e6))
            ended = over.wait(0.2)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
