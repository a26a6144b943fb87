"""Memory: what processes took at their peak, and what this machine still gives."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from slugkit.base.threads import control_groups

CONTROLLERS = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller in /proc/self/cgroup ("" is version 2, "memory" version 1) -> files of its limit and
its use, and the entry of memory.stat with idle pages of files.
"""
NO_LIMIT = 2**62
"""Version 1 writes the largest multiple of a page below 2^63 where nothing limits a group."""


@contextlib.contextmanager
def peak_memory(children: bool = False, pid: int | None = None) -> Iterator[list[int]]:
    """Sample the resident memory of a process, or of its children together, while a block runs.

    Args: pid, None for this process. The list's one item is the peak so far in MB (10^6 bytes).
    """
    import psutil

    parent, over = psutil.Process(pid), threading.Event()
    peak = [0 if children else round(parent.memory_info().rss / 1e6)]

    def watch() -> None:
        while not over.wait(0.2):
            total = 0
            with contextlib.suppress(psutil.Error):
                for process in parent.children(recursive=True) if children else [parent]:
                    with contextlib.suppress(psutil.Error):
                        total += process.memory_info().rss
            peak[0] = max(peak[0], round(total / 1e6))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def free_ram() -> int:
    """Bytes that the machine or its control groups still allow a process, the less of them."""
    import psutil

    return min([psutil.virtual_memory().available, *group_rooms()])


def group_rooms(root: Path = Path("/")) -> list[int]:
    """Bytes that this process's control group, and each group above it, still lets it take; none
    without a limit. Idle pages of files count as free: the kernel gives them up first.

    root: the folder that holds proc/ and sys/.
    """
    found = [
        _room(folder, *CONTROLLERS[controller])
        for folder, controller in control_groups(set(CONTROLLERS), root)
    ]
    return [room for room in found if room is not None]


def _room(folder: Path, limit: str, used: str, idle: str) -> int | None:
    """Bytes left in one control group, 0 or more; None without such a group or a limit."""
    try:
        most, taken = ((folder / name).read_text().strip() for name in (limit, used))
        if most == "max" or int(most) >= NO_LIMIT:
            return None
        lines = (folder / "memory.stat").read_text().splitlines()
        statistics = dict(line.split() for line in lines)
        return max(0, int(most) - int(taken) + int(statistics.get(idle, 0)))
    except (OSError, ValueError):
        return None
