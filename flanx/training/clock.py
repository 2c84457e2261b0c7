"""Time between log lines: how fast steps go, and how much of it waits for data."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flanx.training import metrics


class Clock:
    """Measures since the last log line; evaluating, saving and the first step's compilation do not count."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """A new interval begins."""
        self._began = time.perf_counter()
        self._steps = 0
        self._waited = self._paused = 0.0

    def step(self) -> None:
        """One more step was taken."""
        self._steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around whatever waits for data."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training."""
        began = time.perf_counter()
        yield
        self._paused += time.perf_counter() - began

    def rates(self, sums: dict[str, Any]) -> dict[str, float]:
        """Speed over the interval; empty where it holds no step.

        Args:
          sums: metric sums on the host; they may reach further back than the clock (after a restart), so that their
            averages a step are what counts.
        """
        seconds = time.perf_counter() - self._began - self._paused
        if not self._steps or seconds <= 0:
            return {}
        tokens, examples = metrics.counts(sums)
        steps_per_s = self._steps / seconds
        each = steps_per_s / max(int(sums["steps"]), 1)
        return {
            "steps_per_s": steps_per_s,
            "tokens_per_s": tokens * each,
            "examples_per_s": examples * each,
            "data_wait_s": self._waited,
            "data_wait_share": min(self._waited / seconds, 1.0),
        }
