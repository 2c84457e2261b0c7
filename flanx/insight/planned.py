"""How often training will meet each task: the planned steps, the density of rows, and each task's share."""

from dataclasses import dataclass

from flanx.errors import UserError
from flanx.insight.sample import Density
from flanx.insight.survey import TaskFacts


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
      steps: training steps; None where nobody has said.
      batch_size: rows of a global batch; None likewise.
      packed: several examples a row.
      block_size: examples that are packed together.
      seed: seed of the stream.
    """

    steps: int | None = None
    batch_size: int | None = None
    packed: bool = True
    block_size: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for flag, value in (("--steps", self.steps), ("--batch_size", self.batch_size)):
            if value is not None and value < 1:
                raise UserError(f"{flag} {value}: give at least 1")

    @property
    def rows(self) -> int | None:
        """Rows of the whole run, None where steps or batch size are not known."""
        if self.steps is None or self.batch_size is None:
            return None
        return self.steps * self.batch_size


@dataclass(frozen=True)
class Exposure:
    """How much of the mixture the run reads.

    Attributes:
      plan: the run.
      density: how many examples a row holds, measured by packing the stream's first blocks.
    """

    plan: Plan
    density: Density

    @property
    def seen(self) -> float | None:
        """Examples that the run reads, about."""
        rows = self.plan.rows
        return None if rows is None else rows * self.density.examples_per_row

    def seen_of(self, task: TaskFacts) -> float | None:
        """Examples of one task that the run reads, about."""
        return None if self.seen is None else self.seen * task.share

    def epochs(self, task: TaskFacts) -> float | None:
        """How often the run reads each example of a task, about."""
        seen = self.seen_of(task)
        return None if seen is None else seen / max(task.entry.examples, 1)
