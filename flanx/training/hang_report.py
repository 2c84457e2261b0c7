"""What a run that stands still says: who holds it up, and where to look."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Self

DATA = "waiting for data"
DEVICES = "waiting for the devices"
MOST = 5  # processes named one by one


@dataclass(frozen=True)
class Beat:
    """What a process tells of itself.

    Attributes:
      process: its number.
      host: its machine's name.
      step: steps taken (handed to the devices).
      doing: what its main thread does.
      since: when the last step was taken, in seconds since 1970.
      number: counts its words, so that each is another one.
    """

    process: int
    host: str
    step: int
    doing: str
    since: float
    number: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))

    def text(self) -> str:
        """For people."""
        return f"process {self.process} ({self.host}) is at step {self.step:,} since {_clock(self.since)}, {self.doing}"


def suspects(beats: Sequence[Beat], silent: Collection[int]) -> list[Beat]:
    """The processes that hold up the others; empty where nothing tells them apart.

    Those that are not heard of; else those that do anything but wait for the devices, where the others wait for them;
    else those that have taken fewer steps.
    """
    gone = [beat for beat in beats if beat.process in silent]
    elsewhere = [beat for beat in beats if beat.doing != DEVICES]
    fewest = min((beat.step for beat in beats), default=0)
    behind = [beat for beat in beats if beat.step == fewest]
    for group in (gone, elsewhere, behind):
        if group and len(group) < len(beats):
            return group
    return []


def report(
    beats: Sequence[Beat],
    silent: Collection[int],
    *,
    seconds: float,
    stacks: str,
    status: int | None,
) -> str:
    """One line.

    Args:
      beats: what each process said last; one, where the run is one process.
      silent: processes that are not heard of any more.
      seconds: for how long there was no step.
      stacks: where stacks lie.
      status: that the process ends with, None where it goes on waiting.
    """
    found = suspects(beats, silent)
    named = [
        f"{beat.text()}{', and not heard of any more' if beat.process in silent else ''}"
        for beat in found[:MOST]
    ]
    if len(found) > MOST:
        named.append(f"{len(found) - MOST} more")
    others = [beat for beat in beats if beat not in found]
    if len(beats) == 1:
        named = [beats[0].text().partition(") ")[2].replace("is at", "the run is at", 1)]
    elif found:
        steps = sorted({beat.step for beat in others})
        waiting = f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"
        named.append(f"the other {len(others)} wait at step {waiting}")
    else:
        named = [f"all {len(beats)} processes are at step {others[0].step:,}, {others[0].doing}"]
    text = f"flanx: no step for {_length(seconds)}: {'; '.join(named)}. Stacks: {stacks}"
    if status is None:
        return text
    return f"{text}. {ending(status)}"


def ending(status: int) -> str:
    """How every line of a process ends that leaves to be started again."""
    return f"Ending with status {status}: started again, the run goes on from its last checkpoint"


def _clock(since: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(since))


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes"
