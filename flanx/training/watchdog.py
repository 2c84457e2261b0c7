"""Notices that a run stands still, and says which process of it holds up the others.

Every process tells, every few seconds and from a thread of its own, at which step it is and what it does. Where no step
ends for `TrainConfig.hang_seconds`, one process reports who fell behind, every process leaves its Python stacks in
`MODEL_DIR/hang-<process>.txt`, and all end with status 75, so that whatever started them starts them again.

What takes its time by right does not count: starting, compiling, evaluating, saving.
"""

import faulthandler
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from flanx.terminal import printable, say
from flanx.training.board import Board
from flanx.training.hang_report import Beat, ending, report

STATUS = 75
BEAT_SECONDS = 5.0  # between two words of a process
SILENT_SECONDS = 60.0  # of a process that is not heard of; JAX itself gives up on it after 100
GRACE_SECONDS = 20.0  # for the others to leave their stacks


class Watchdog:
    """Watches while it is entered; the loop tells it of every step.

    Attributes:
      doing: what the main thread does, in words.
    """

    def __init__(
        self,
        model_dir: str,
        board: Board,
        *,
        limit: float | None,
        ends: bool,
        leave: Callable[[int], None] = os._exit,
    ):
        """Says nothing yet.

        Args:
          model_dir: where stacks are left.
          board: where processes read of each other.
          limit: seconds without a step that make a hang; None for a watchdog that sleeps.
          ends: whether a hang ends the process.
          leave: ends the process at once, whatever its other threads wait for.
        """
        self.doing = "starting"
        self._folder, self._board, self._ends, self._leave = Path(model_dir), board, ends, leave
        self._limit = limit
        self._every = min(BEAT_SECONDS, (limit or BEAT_SECONDS) / 4)
        self._silent_after = min(SILENT_SECONDS, limit or SILENT_SECONDS)
        self._step, self._since = 0, time.time()
        self._moves = self._seen = 0
        self._busy = 1  # until the first step
        self._still = 0.0
        self._words = 0
        self._heard: dict[int, tuple[str, float]] = {}
        self._reported: int | None = None
        self._answered: str | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._limit is not None:
            if self._several:
                self._answered = self._board.alarm()
                self._say()  # one that dies at once is known by this
            self._thread = threading.Thread(target=self._run, name="flanx-watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def step(self, step: int) -> None:
        """`step` steps are taken; the first one told of ends the time of starting."""
        if not self._moves:
            self._busy -= 1
        self._step, self._since = step, time.time()
        self._moves += 1

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Around what may take as long as it takes."""
        before, self.doing = self.doing, doing
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self.doing, self._since = before, time.time()

    def beat(self, seconds: float) -> None:
        """One look, `seconds` after the one before.

        Time is counted in looks: a process that was stopped and continued has not hung, nor a machine that slept.
        """
        assert self._limit is not None
        moved = self._moves != self._seen or self._busy > 0
        self._seen = self._moves
        self._still = 0.0 if moved else self._still + seconds
        hangs = self._still >= self._limit
        if self._several:
            self._say()
            self._listen(seconds)
            alarm = self._board.alarm()
            if self._step == self._reported:
                self._answered = alarm
            hangs |= alarm != self._answered
            hangs |= self._still >= self._silent_after / 2 and bool(self._silent())
        if hangs and self._step != self._reported:
            self._hang()

    def failed(self) -> None:
        """A device operation failed: if that is because another process is gone, says so and ends this one.

        A process that dies takes the operations of the others with it; which one it was shows after a while.
        """
        if self._limit is None or not self._several:
            return
        self._stop()
        waited = 0.0
        try:
            while not self._silent() and waited < self._silent_after + 4 * self._every:
                self._say()
                self._listen(self._every)
                waited += self._every
                time.sleep(self._every)
        except Exception as error:
            self._lost(error)
            return
        if self._silent():
            self._still = waited
            self._report()
            if self._ends:
                self._leave(STATUS)

    @property
    def _several(self) -> bool:
        return self._board.count > 1

    def _stop(self) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        failing = 0.0
        while not self._done.wait(self._every):
            try:
                self.beat(self._every)
                failing = 0.0
            except Exception as error:
                failing += self._every
                if failing >= self._silent_after:
                    self._lost(error)

    def _lost(self, error: Exception) -> None:
        """Process 0, which keeps the board, does not answer."""
        reason = " ".join(str(error).split())[:120]
        text = f"flanx: process 0, through which the processes of this run find each other, does not answer ({reason})"
        say(f"{text}. {ending(STATUS)}" if self._ends else text)
        self._done.set()
        if self._ends:
            self._leave(STATUS)

    def _hang(self) -> None:
        step = self._step
        # A file system that hangs must not keep the process from ending.
        writer = threading.Thread(target=self._leave_stacks, daemon=True)
        writer.start()
        if self._several and self._board.alarm() == self._answered:
            self._board.raise_alarm(f"process {self._board.index} at step {self._step}")
        writer.join(GRACE_SECONDS)
        if self._several:
            self._board.sign()
            self._wait_for_others()
            self._listen(0.0)
        there = set(range(self._board.count)) - self._silent()
        if self._board.index == min(there, default=0):
            self._report()
        self._reported = step  # last: where the board does not answer, the next look tries again
        if self._ends:
            if self._several and self._board.index == 0:
                time.sleep(1.0)  # the board is process 0's: it goes last
            self._leave(STATUS)

    def _wait_for_others(self) -> None:
        """Until every process that is still heard of has left its stacks."""
        wanted = set(range(self._board.count)) - self._silent()
        waited = 0.0
        while wanted - self._board.signed() and waited < GRACE_SECONDS:
            waited += 0.1
            time.sleep(0.1)

    def _leave_stacks(self) -> None:
        path = self._folder / f"hang-{self._board.index}.txt"
        try:
            with path.open("w") as file:
                file.write(f"{self._mine().text()}\n\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:
            say(f"flanx: no {printable(path)} ({error.strerror})")

    def _report(self) -> None:
        heard = [Beat.from_json(text) for text, _ in self._heard.values()]
        text = report(
            sorted(heard, key=lambda beat: beat.process) if self._several else [self._mine()],
            self._silent(),
            seconds=self._still,
            stacks=str(self._folder / "hang-*.txt"),
            status=STATUS if self._ends else None,
        )
        say(text)

    def _mine(self) -> Beat:
        host = socket.gethostname()
        return Beat(self._board.index, host, self._step, self.doing, self._since, self._words)

    def _say(self) -> None:
        self._words += 1
        self._board.tell(self._mine().to_json())

    def _listen(self, seconds: float) -> None:
        """Takes down what each process says, and for how long it has said nothing new."""
        for process, text in self._board.told().items():
            then, silence = self._heard.get(process, ("", 0.0))
            self._heard[process] = (text, 0.0 if text != then else silence + seconds)

    def _silent(self) -> set[int]:
        return {p for p, (_, silence) in self._heard.items() if silence >= self._silent_after}
