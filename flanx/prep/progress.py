"""How far caching is, how fast, and for how long yet: a bar on a terminal, plain lines elsewhere. Always to stderr."""

import os
import sys
import time
from typing import TextIO

from flanx.terminal import printable

_SECONDS = 5.0  # between plain lines


class Progress:
    """Shows work items as they end; the base shows nothing and is what `FLANX_PROGRESS=off` gives."""

    def start(self, total: int, work: float = 0.0) -> None:
        """`total` items are to be done, of `work` altogether, in any measure."""

    def advance(self, name: str, examples: int, work: float = 0.0, made: bool = True) -> None:
        """An item is done: its task, the examples it holds, its work, and whether it had to be made."""

    def part(self, name: str, work: float) -> None:
        """A piece of an item is done; `advance` will not count its work again."""

    def warn(self, text: str) -> None:
        """Something the user should know; nothing has failed."""

    def doing(self, text: str) -> None:
        """What is going on between or after the items, said now and then."""

    def stop(self) -> None:
        """All is done, or given up."""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def default(stream: TextIO | None = None) -> Progress:
    """The bar where `stream` (stderr) is a terminal, lines elsewhere; none where FLANX_PROGRESS is `off`."""
    stream = stream or sys.stderr
    if os.environ.get("FLANX_PROGRESS") == "off":
        return Progress()
    return Bar() if stream.isatty() else Lines(stream)


class Pace:
    """Examples a second and seconds to go. What was there already counts for neither.

    Attributes:
      examples: of all items that are done.
    """

    def __init__(self, work: float):
        self._began = time.monotonic()
        self._left = work
        self._done = 0.0
        self._made = 0
        self.examples = 0

    def add(self, examples: int, work: float, made: bool) -> None:
        self.examples += examples
        self._left -= work
        if made:
            self._made += examples
            self._done += work

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def rate(self) -> float:
        return self._made / max(self.seconds, 1e-9)

    @property
    def remaining(self) -> float | None:
        """None where nothing tells."""
        if self._left <= 0 or self._done <= 0:
            return None
        return self.seconds * self._left / self._done

    def __str__(self) -> str:
        left = self.remaining
        text = f"{self.examples:,} examples"
        if self._made:
            text += f" ({self.rate:,.0f} a second)"
        return text if left is None else f"{text}, {_duration(left)} left"


class Lines(Progress):
    """A line at most every few seconds, and one at the end."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._total = self._done = 0
        self._pace = Pace(0.0)
        self._said = 0.0

    def start(self, total: int, work: float = 0.0) -> None:
        self._total = total
        self._pace = Pace(work)
        self._said = time.monotonic()

    def advance(self, name: str, examples: int, work: float = 0.0, made: bool = True) -> None:
        self._done += 1
        self._pace.add(examples, work, made)
        self._say_if_due()

    def part(self, name: str, work: float) -> None:
        self._pace.add(0, work, True)
        self._say_if_due()

    def warn(self, text: str) -> None:
        print(f"cache: {printable(text)}", file=self._stream, flush=True)

    def doing(self, text: str) -> None:
        if time.monotonic() - self._said >= _SECONDS:
            self._said = time.monotonic()
            self.warn(text)

    def stop(self) -> None:
        if self._total:
            self._say()
            self._total = 0

    def _say_if_due(self) -> None:
        if time.monotonic() - self._said >= _SECONDS and self._done < self._total:
            self._say()

    def _say(self) -> None:
        self._said = time.monotonic()
        print(
            f"cache: {self._done:,} of {self._total:,} tasks, {_duration(self._pace.seconds)}: {self._pace}",
            file=self._stream,
            flush=True,
        )


class Bar(Progress):
    """A rich progress bar on stderr."""

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console

        self._pace = Pace(0.0)
        self._bar = progress.Progress(
            progress.TextColumn("cache"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("tasks · {task.fields[pace]} · {task.fields[name]}", markup=False),
            progress.TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        self._task: progress.TaskID | None = None

    def start(self, total: int, work: float = 0.0) -> None:
        self._pace = Pace(work)
        self._task = self._bar.add_task("cache", total=total, pace="", name="")
        self._bar.start()

    def advance(self, name: str, examples: int, work: float = 0.0, made: bool = True) -> None:
        self._pace.add(examples, work, made)
        self._show(1, name)

    def part(self, name: str, work: float) -> None:
        self._pace.add(0, work, True)
        self._show(0, name)

    def warn(self, text: str) -> None:
        self._bar.console.print(f"cache: {printable(text)}", markup=False, highlight=False)

    def doing(self, text: str) -> None:
        self._show(0, text)

    def stop(self) -> None:
        if self._task is not None:
            self._show(0, "")
            self._bar.stop()
            self._task = None

    def _show(self, done: int, name: str) -> None:
        if self._task is not None:
            self._bar.update(self._task, advance=done, pace=str(self._pace), name=printable(name))


def _duration(seconds: float) -> str:
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
