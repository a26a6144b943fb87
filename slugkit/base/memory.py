"""Peak memory of processes, for the tables of what things cost."""

import contextlib
import threading
from collections.abc import Iterator


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
