"""How far an evaluation or a file of questions is: a bar on a terminal, a line now and then elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator

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

    def show(done: int, total: int, what: str) -> None:
        nonlocal said
        now = time.monotonic()
        if done == total or now - said >= _SECONDS:
            said = now
            print(f"{what}: {done:,} of {total:,} {unit}", file=sys.stderr, flush=True)

    return show


@contextlib.contextmanager
def _bar(unit: str) -> Iterator[Show]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn(unit),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        known: dict[str, progress.TaskID] = {}

        def show(done: int, total: int, what: str) -> None:
            if what not in known:
                known[what] = bar.add_task(what, total=total)
            bar.update(known[what], completed=done, total=total)

        yield show
