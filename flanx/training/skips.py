"""Ends a run that learns nothing any more: loss or gradient not finite so many times in a row.

The count is made on the devices, goes into checkpoints, and is read where the host waits for a step anyway, so that it
is known a step or two late. Nothing is written in between without asking here first: what lies on disk is the same
whenever it was noticed. While updates are being skipped no checkpoint is saved, and the last one from before stays:
parameters that have gone wrong must not push out those that had not.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flanx.errors import Diverged

MOST_TASKS = 5  # named in the report
REMEMBERED = 8  # batches: more than steps are in flight
MOST_AT_END = 2  # skipped one after the other, with which a run does not end well
CALM = 100  # steps without a skip, after which the next one is a new trouble


class Skips:
    """Watches the number of updates skipped in a row, and remembers what the latest batches were made of.

    Attributes:
      before: the last step before updates began to be skipped, in the latest such trouble; None where there was none.
    """

    def __init__(
        self,
        limit: int | None,
        task_names: Sequence[str],
        stored: Mapping[str, Any] | None = None,
    ):
        """Begins where a checkpoint left off.

        Args:
          limit: skipped in a row, they end the run; None for never.
          task_names: in the order of `decoder_task_ids`.
          stored: what `to_json` gave.
        """
        self._limit, self._names = limit, task_names
        self.before: int | None = (stored or {}).get("before")
        self._latest: int | None = (stored or {}).get("latest")
        self._batches: deque[tuple[int, np.ndarray, np.ndarray]] = deque(maxlen=REMEMBERED)

    def remember(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """The batch (this process's rows) that makes step `step`."""
        if "decoder_task_ids" in arrays:
            self._batches.append((step, arrays["decoder_task_ids"], arrays["decoder_loss_weights"]))

    def to_json(self) -> dict[str, int | None]:
        """What a run that resumes must know."""
        return {"before": self.before, "latest": self._latest}

    def check(
        self,
        step: int,
        in_a_row: Any,
        checkpoints: Callable[[], Sequence[int]],
        folder: Path,
        learning_rate: Callable[[], float],
    ) -> None:
        """Looks at the count after `step`.

        Args:
          step: number of steps taken.
          in_a_row: updates skipped one after the other up to then; a number or a scalar array.
          checkpoints: tells the steps of the checkpoints there are.
          folder: where they lie.
          learning_rate: tells the latest.

        Raises:
          Diverged: the limit is reached.
        """
        if not int(in_a_row):
            return
        good = step - int(in_a_row)
        if self._latest is None or good - self._latest >= CALM:
            self.before = good
        self._latest = step
        if self._limit is None or int(in_a_row) < self._limit:
            return
        last = step - (int(in_a_row) - self._limit)
        first = last - self._limit + 1
        before = [saved for saved in checkpoints() if saved < first]
        kept = f"{folder}/{max(before)} is the last checkpoint before them" if before else ""
        told = (
            f"loss or gradient was not finite {self._limit} times in a row, at the steps {first:,} to {last:,}, and "
            f"those updates were skipped at a learning rate of {learning_rate():.3g}{self._tasks(last)}; "
            f"{kept or 'there is no checkpoint before them'}. Try a lower LEARNING_RATE or a warm-up, "
            "TrainConfig.gradient_clip = 1.0, or MODEL_DTYPE = 'float32', and run the same command again; "
            "TrainConfig.most_skipped_in_a_row sets the patience"
        )
        raise Diverged(told)

    def check_end(self, step: int, in_a_row: int, folder: Path) -> None:
        """Looks at the count after the last step of a run that did not reach the limit.

        One skipped update may be chance. Two in a row at the very end are hardly, and a run that has taken no update
        at all has learned nothing.

        Raises:
          Diverged: the run is not worth a checkpoint.
        """
        never = in_a_row >= step
        if not never and (self._limit is None or in_a_row < MOST_AT_END):
            return
        what = "any step" if never else f"the last {in_a_row} steps"
        raise Diverged(
            f"loss or gradient was not finite at {what}, up to step {step:,}, where the run ends, and those updates "
            f"were skipped: nothing is saved of it to {folder}. Try a lower LEARNING_RATE or a warm-up, "
            "TrainConfig.gradient_clip = 1.0, or MODEL_DTYPE = 'float32', and run the same command again"
        )

    def _tasks(self, step: int) -> str:
        """Which tasks the batch of `step` held, as far as this process knows."""
        for taken, ids, weights in self._batches:
            if taken == step:
                found = [self._names[i] for i in np.unique(ids[weights > 0])]
                more = len(found) - MOST_TASKS
                names = ", ".join(found[:MOST_TASKS]) + (f" and {more} more" if more > 0 else "")
                return f" (the last batch held {names})" if names else ""
        return ""
