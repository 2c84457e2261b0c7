"""How far an evaluation or a file of questions is: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

from flanx.terminal import printable, say

Show = Callable[[int, int, str], None]  # (done, total, what)

_SECONDS = 10.0  # between plain lines


@contextlib.contextmanager
def shown(unit: str) -> Iterator[Show]:
    """Gives a function that is told how far the work is, and shows it on stderr.

    Args:
      unit: what is counted ("examples").
    """
    if os.environ.get("FLANX_PROGRESS") == "off":
        yield lambda done, total, what: None
    elif sys.stderr.isatty():
        with _bar(unit) as show:
            yield show
    else:
        yield _lines(unit)


def _lines(unit: str) -> Show:
    said = time.monotonic()
    began: dict[
        str, tuple[float, int]
    ] = {}  # when a work began, and how much of it was done before

    def show(done: int, total: int, what: str) -> None:
        nonlocal said
        now = time.monotonic()
        start, before = began.setdefault(what, (now, done))
        if done == total or now - said >= _SECONDS:
            said = now
            rate = f", {_per_second(done - before, now - start)}" if done > before else ""
            say(f"{printable(what)}: {done:,} of {total:,} {unit}{rate}")

    return show


def _per_second(count: int, seconds: float) -> str:
    return f"{count / max(seconds, 1e-3):,.1f} a second"


@contextlib.contextmanager
def _bar(unit: str) -> Iterator[Show]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(unit),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        known: dict[str, progress.TaskID] = {}

        def show(done: int, total: int, what: str) -> None:
            if what not in known:
                known[what] = bar.add_task(printable(what), total=total, completed=done, rate="")
            speed = bar.tasks[known[what]].speed
            rate = f"{speed:,.1f} a second" if speed else ""
            bar.update(known[what], completed=done, total=total, rate=rate)

        yield show
