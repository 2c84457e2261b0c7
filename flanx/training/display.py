"""How far training is: a live bar on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from flanx.evaluation import counts
from flanx.terminal import printable

PLAIN_SECONDS = 10.0


class Display:
    """Told of every log line, shows as much as fits; a disabled one is silent (processes other than 0)."""

    def __init__(self, total: int, step: int, *, enabled: bool, console: Console | None = None):
        """`total` steps in the run, `step` of them done."""
        self.console = console or Console(stderr=False, quiet=not enabled, highlight=False)
        self._total = total
        self._said = -PLAIN_SECONDS
        self._bar: Progress | None = None
        self._steps = self._evaluation = TaskID(0)
        if enabled and self.console.is_terminal:
            whole = Column(no_wrap=True)
            self._bar = Progress(
                TextColumn("{task.description}", table_column=whole, markup=False),
                BarColumn(bar_width=12),
                MofNCompleteColumn(table_column=whole),
                TimeRemainingColumn(table_column=whole),
                # On a narrow terminal it is the note that is cut, from its end.
                TextColumn(
                    "{task.fields[note]}",
                    style="dim",
                    table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
                ),
                console=self.console,
                expand=True,
            )
            self._steps = self._bar.add_task("train", total=total, completed=step, note="")
            self._evaluation = self._bar.add_task("eval", total=1, visible=False, note="")
            self._bar.start()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(printable(text, lines=True), markup=False, soft_wrap=True)

    def train(self, step: int, values: Mapping[str, Any]) -> None:
        """A log line of training."""
        note = _note(values)
        if self._bar is not None:
            self._bar.update(self._steps, completed=step, note=note)
        elif time.monotonic() - self._said >= PLAIN_SECONDS or step == self._total:
            self._said = time.monotonic()
            self.say(f"step {step:,} of {self._total:,}  {note}")

    def evaluating(self, done: int, total: int, what: str) -> None:
        """How far an evaluation is: `what` names the suite and what of its examples is made."""
        if self._bar is not None:
            self._bar.update(
                self._evaluation,
                description=f"eval {printable(what)}",
                completed=done,
                total=total,
                visible=done < total,
            )
        elif done < total and time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            self.say(f"eval {what}: {done:,} of {total:,} examples")

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """An evaluation's result: what is averaged over a suite, not every task, and what those means are of."""
        suites: dict[str, list[str]] = {}
        for name, value in values.items():
            if name.count("/") == 1 and not counts.is_count(name):
                suites.setdefault(name.partition("/")[0], []).append(f"{name} {value:.4g}")
        parts = []
        for suite, means in suites.items():
            of = counts.of_suite(values, suite)
            parts.append("  ".join(means) + (f" ({of})" if of else ""))
        self.say(f"eval at step {step:,}: {'  '.join(parts) or f'{len(values)} metrics'}")

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.stop()


def _note(values: Mapping[str, Any]) -> str:
    parts = [f"loss {values['loss']:.4f}", f"accuracy {100 * values['accuracy']:.1f} %"]
    if "steps_per_s" in values:
        parts += [
            f"{1000 / values['steps_per_s']:,.0f} ms/step",
            f"{values['tokens_per_s']:,.0f} tokens/s",
            f"{100 * values['data_wait_share']:.1f} % waiting for data",
            f"{100 * values['device_wait_share']:.1f} % for devices",
        ]
    if "mfu" in values:
        parts.append(f"MFU {100 * values['mfu']:.1f} %")
    if "skipped_updates" in values:
        parts.append(f"{values['skipped_updates']} updates skipped (not finite)")
    return "  ".join(parts)
