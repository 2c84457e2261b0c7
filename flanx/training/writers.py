"""Everything that a run writes for people to read: metrics.jsonl, TensorBoard events, the display. Process 0 only."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console

from flanx.evaluation import counts
from flanx.training.display import Display
from flanx.training.metrics_file import MetricsFile

MOST_CURVES = 64  # tasks beyond which only metrics.jsonl has each one's loss


class Writers(Protocol):
    """What the loop tells."""

    def train(self, step: int, values: Mapping[str, Any]) -> None:
        """Training metrics since the last line."""

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        """Metrics of an evaluation."""

    def evaluating(self, done: int, total: int, suite: str) -> None:
        """How far an evaluation is."""

    def say(self, text: str) -> None:
        """A sentence for the user."""

    def close(self) -> None:
        """Nothing more will come."""

    @property
    def console(self) -> Console | None:
        """Where tables go; None for nowhere."""


class AllWriters:
    """The three writers of process 0."""

    def __init__(self, model_dir: str, *, step: int, total: int, log_period: int):
        """Opens a run that has done `step` of `total` steps."""
        self._file = MetricsFile(model_dir, step=step, log_period=log_period)
        self._model_dir, self._purge = model_dir, step + 1
        self._board: Any = None
        self._display = Display(total, step, enabled=True)
        self._refused: set[str] = set()
        if self._file.damage is not None:
            self.say(self._file.damage)

    @property
    def console(self) -> Console | None:
        return self._display.console

    def train(self, step: int, values: Mapping[str, Any]) -> None:
        self._write("metrics.jsonl", self._file.write, step, "train", values)
        self._scalars(step, {f"train/{k}": v for k, v in values.items() if k != "task_loss"})
        tasks = values.get("task_loss", {})
        if len(tasks) <= MOST_CURVES:
            self._scalars(step, {f"task_loss/{name}": value for name, value in tasks.items()})
        self._display.train(step, values)

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        self._write("metrics.jsonl", self._file.write, step, "eval", values)
        # Of how many examples a score is stays the same over the steps: no curve.
        scores = {name: value for name, value in values.items() if not counts.is_count(name)}
        self._scalars(step, {f"eval/{name}": value for name, value in scores.items()})
        self._display.evaluated(step, values)

    def evaluating(self, done: int, total: int, suite: str) -> None:
        self._display.evaluating(done, total, suite)

    def say(self, text: str) -> None:
        self._display.say(text)

    def close(self) -> None:
        self._display.close()
        self._write("metrics.jsonl", self._file.close)
        if self._board is not None:
            self._write("the TensorBoard events", self._board.close)

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        """TensorBoard events; steps that a restart takes again are purged there."""
        if self._board is None:
            self._write("the TensorBoard events", self._open_board)
        if self._board is not None:
            self._write("the TensorBoard events", self._board.scalars, step, values)

    def _open_board(self) -> None:
        from flanx.training.event_file import EventFile

        self._board = EventFile(self._model_dir, self._purge)

    def _write(self, what: str, write: Callable[..., None], *arguments: Any) -> None:
        """A full disk ends no run: it is told once, and what was not written waits for room."""
        try:
            write(*arguments)
            self._refused.discard(what)
        except OSError as error:
            if what not in self._refused:
                self.say(
                    f"{what} cannot be written ({error.strerror}); training goes on, and tries again"
                )
            self._refused.add(what)


class NoWriters:
    """What processes other than 0 write: nothing."""

    console: Console | None = None

    def train(self, step: int, values: Mapping[str, Any]) -> None:
        pass

    def evaluation(self, step: int, values: Mapping[str, float]) -> None:
        pass

    def evaluating(self, done: int, total: int, suite: str) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass
