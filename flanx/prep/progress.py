"""How far caching is: a bar on a terminal, a plain line now and then elsewhere. Always to stderr."""

import os
import sys
import time
from types import TracebackType
from typing import TextIO

_SECONDS = 5.0  # between plain lines


class Progress:
    """Shows units of work as they end; the base shows nothing and is what `FLANX_PROGRESS=off` gives."""

    def start(self, total: int) -> None:
        """`total` units are to be done."""

    def advance(self, name: str, examples: int) -> None:
        """A unit is done: its task and the examples it holds."""

    def warn(self, text: str) -> None:
        """Something the user should know; nothing has failed."""

    def stop(self) -> None:
        """All is done, or given up."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def default(stream: TextIO | None = None) -> Progress:
    """The bar where `stream` (stderr) is a terminal, lines elsewhere; none where FLANX_PROGRESS is `off`."""
    stream = stream or sys.stderr
    if os.environ.get("FLANX_PROGRESS") == "off":
        return Progress()
    return Bar() if stream.isatty() else Lines(stream)


class Lines(Progress):
    """A line at most every few seconds, and one at the end."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._total = self._done = self._examples = 0
        self._began = self._said = time.monotonic()

    def start(self, total: int) -> None:
        self._total = total
        self._began = self._said = time.monotonic()

    def advance(self, name: str, examples: int) -> None:
        self._done += 1
        self._examples += examples
        if time.monotonic() - self._said >= _SECONDS and self._done < self._total:
            self._say()

    def warn(self, text: str) -> None:
        print(f"cache: {text}", file=self._stream, flush=True)

    def stop(self) -> None:
        if self._total:
            self._say()
            self._total = 0

    def _say(self) -> None:
        self._said = time.monotonic()
        seconds = self._said - self._began
        print(
            f"cache: {self._done:,} of {self._total:,} tasks, {self._examples:,} examples, "
            f"{seconds:.0f} s",
            file=self._stream,
            flush=True,
        )


class Bar(Progress):
    """A rich progress bar on stderr."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._examples = 0
        self._bar = progress.Progress(
            progress.TextColumn("cache"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("tasks · {task.fields[examples]:,} examples · {task.fields[name]}"),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: progress.TaskID | None = None

    def start(self, total: int) -> None:
        self._task = self._bar.add_task("cache", total=total, examples=0, name="")
        self._bar.start()

    def advance(self, name: str, examples: int) -> None:
        self._examples += examples
        if self._task is not None:
            self._bar.update(self._task, advance=1, examples=self._examples, name=name)

    def warn(self, text: str) -> None:
        self._bar.console.print(f"cache: {text}", markup=False, highlight=False)

    def stop(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, name="")
            self._bar.stop()
            self._task = None
