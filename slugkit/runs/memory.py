"""Peak memory of child processes, for the tables of seconds and memory."""

import contextlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def peak_of_children(pid: int | None = None) -> Iterator[list[int]]:
    """Sample the resident memory of all child processes of `pid` (this process) together, four times a second.

    The item of the list is the peak so far, in MB (10^6 bytes). Pages that children share are counted once for each.
    """
    import psutil

    peak, over = [0], threading.Event()
    parent = psutil.Process(pid)

    def watch() -> None:
        while not over.wait(0.25):
            total = 0
            with contextlib.suppress(psutil.Error):
                for child in parent.children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        total += child.memory_info().rss
            peak[0] = max(peak[0], round(total / 1e6))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
