"""One progress bar for the terminal, JupyterLab and headless runs."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm.auto import tqdm

Item = TypeVar("Item")


def headless() -> bool:
    """True where a moving bar would only flood a log.

    SLUGKIT_HEADLESS=1 says so, 0 denies it. Without it: a kernel is taken for one that somebody is
    looking at, any other process is headless when its stderr is no terminal.
    """
    said = os.environ.get("SLUGKIT_HEADLESS")
    if said:
        return said != "0"
    if "ipykernel" in sys.modules:
        return False
    return not sys.stderr.isatty()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _tenths(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    started, done, told = time.monotonic(), 0, 0
    for item in items:
        yield item
        done += 1
        if not total:
            continue
        tenth = 10 * done // total
        if tenth > told:
            told = tenth
            spent = time.monotonic() - started
            left = spent * max(total - done, 0) / done
            print(
                f"{what}: {done}/{total}, {_clock(spent)} gone, about {_clock(left)} left",
                file=sys.stderr,
                flush=True,
            )
    if not total:
        print(
            f"{what}: {done} done, {_clock(time.monotonic() - started)}",
            file=sys.stderr,
            flush=True,
        )


def progress(iterable: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """Yield the items of `iterable` unchanged, showing how far it is and how long is left.

    what: a word or two on what is being done. total: number of items, where `len` does not tell it.
    In a terminal or JupyterLab a tqdm bar; headless (see `headless`) one line per tenth on stderr.
    """
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    if headless():
        return _tenths(iterable, what, total)
    return tqdm(iterable, desc=what, total=total, leave=False)
