"""How much of a conversion is written: a bar in bytes on a terminal, a line every few seconds elsewhere. To stderr."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

_SECONDS = 5.0  # between plain lines


@contextmanager
def progress(total: int, stream: TextIO | None = None) -> Iterator[Callable[[int], None]]:
    """Shows progress to `total` bytes while it is open; gives what is to be told of each array's bytes.

    FLANX_PROGRESS=off shows nothing.
    """
    stream = stream or sys.stderr
    if os.environ.get("FLANX_PROGRESS") == "off":
        yield lambda count: None
    elif stream.isatty():
        with _bar(total) as advance:
            yield advance
    else:
        yield _lines(total, stream)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("converting", total=total)
        yield lambda count: bar.advance(task, count)


def _lines(total: int, stream: TextIO) -> Callable[[int], None]:
    lock, done, last = threading.Lock(), 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        with lock:
            done += count
            if time.monotonic() - last > _SECONDS:
                last = time.monotonic()
                print(
                    f"flanx convert: {done / 1e9:.2f} of {total / 1e9:.2f} GB",
                    file=stream,
                    flush=True,
                )

    return advance
