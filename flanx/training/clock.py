"""Time between log lines: how fast steps go, and what the loop spends each on (docs/metrics.md)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flanx.training import metrics

# Values of a metrics.jsonl line that a clock measured: no two runs agree in them.
TIMED = (
    "steps_per_s",
    "tokens_per_s",
    "examples_per_s",
    "data_wait_s",
    "data_wait_share",
    "dispatch_s",
    "dispatch_share",
    "device_wait_s",
    "device_wait_share",
    "mfu",
)


class Clock:
    """Measures since the last log line; evaluating, saving and the first step's compilation do not count."""

    def __init__(self, steps_at_peak: float | None = None) -> None:
        """Begins the first interval.

        Args:
          steps_at_peak: steps a second that the devices' published peak rate would allow (`flanx.training.mfu`); None
            where it is not known, and then there is no MFU.
        """
        self._steps_at_peak = steps_at_peak
        self._pausing = False
        self.restart()

    def restart(self) -> None:
        """A new interval begins."""
        self._began = time.perf_counter()
        self._steps = 0
        self._data = self._devices = self._paused = 0.0

    def step(self) -> None:
        """One more step was taken."""
        self._steps += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around whatever waits for data."""
        began = time.perf_counter()
        yield
        self._data += time.perf_counter() - began

    @contextmanager
    def on_devices(self) -> Iterator[None]:
        """Around whatever waits for the devices to end steps; inside a pause as well, for that is no pause to them."""
        began = time.perf_counter()
        yield
        seconds = time.perf_counter() - began
        self._devices += seconds
        if self._pausing:
            self._paused -= seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Around what is no training."""
        began, self._pausing = time.perf_counter(), True
        try:
            yield
        finally:
            self._pausing = False
            self._paused += time.perf_counter() - began

    def rates(self, sums: dict[str, Any]) -> dict[str, float]:
        """Speed over the interval, and what its seconds went to; empty where it holds no step.

        Every second is one of three: waiting for data, waiting for devices, or dispatch, which is all else that the
        loop does.

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
        values = {
            "steps_per_s": steps_per_s,
            "tokens_per_s": tokens * each,
            "examples_per_s": examples * each,
        }
        dispatch = max(seconds - self._data - self._devices, 0.0)
        spent = {"data_wait": self._data, "dispatch": dispatch, "device_wait": self._devices}
        for name, part in spent.items():
            values |= {f"{name}_s": part, f"{name}_share": min(part / seconds, 1.0)}
        if self._steps_at_peak:
            values["mfu"] = steps_per_s / self._steps_at_peak
        return values
