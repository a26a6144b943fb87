"""One progress bar for the terminal, JupyterLab and headless runs."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm.auto import tqdm

_Item = TypeVar("_Item")
QUICK = 10.0
"""Seconds of work about which a headless run says nothing."""


def _headless() -> bool:
    """Whether a moving bar would only flood a log: SLUGKIT_HEADLESS=1 says so, 0 denies it.

    Without it, a kernel has a reader, and any other process is headless without a terminal.
    """
    said = os.environ.get("SLUGKIT_HEADLESS")
    if said:
        return said != "0"
    return "ipykernel" not in sys.modules and not sys.stderr.isatty()


def _tenths(items: Iterable[_Item], what: str, total: int | None) -> Iterator[_Item]:
    started, done = time.monotonic(), 0
    for done, item in enumerate(items, 1):
        yield item
        spent = time.monotonic() - started
        tenth = total and 10 * done // total > 10 * (done - 1) // total
        if total and tenth and spent * total / done >= QUICK:
            left = tqdm.format_interval(spent * max(total - done, 0) / done)
            gone = tqdm.format_interval(spent)
            text = f"{what}: {done}/{total}, {gone} gone, about {left} left"
            print(text, file=sys.stderr, flush=True)
    spent = time.monotonic() - started
    if not total and spent >= QUICK:
        text = f"{what}: {done} done, {tqdm.format_interval(spent)}"
        print(text, file=sys.stderr, flush=True)


def progress(iterable: Iterable[_Item], what: str, total: int | None = None) -> Iterable[_Item]:
    """Yield the items of `iterable`, showing how far it is and how long is left.

    A tqdm bar; headless, one line per tenth on stderr for work of more than a few seconds.
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if _headless():
        return _tenths(iterable, what, total)
    return tqdm(iterable, desc=what, total=total, leave=False)
