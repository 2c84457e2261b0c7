"""The end of a run: what tuning was worth on each task, as a table and as MODEL_DIR/summary.json.

Made from metrics.jsonl and eval/ alone, so that it can be made again at any time.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from etils import epath

from flanx import whole_files
from flanx.evaluation import history, predictions
from flanx.evaluation.majority import majority

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

FILE = "summary.json"
MOST_ROWS = 60  # a larger suite is printed by its average alone


@dataclass(frozen=True)
class TaskSummary:
    """A task's headline figure, in percent.

    Attributes:
      task: task name.
      metric: what the figure is.
      examples: number of examples.
      tuned: at the last evaluation.
      untuned: before the first step; None where that was not evaluated.
      majority: of the best constant answer; None where there are no stored answers.
      majority_answer: that answer.
    """

    task: str
    metric: str
    examples: int
    tuned: float
    untuned: float | None
    majority: float | None
    majority_answer: str | None


@dataclass(frozen=True)
class SuiteSummary:
    """A suite's tasks and their means; a mean is None unless every task has the figure."""

    name: str
    tasks: tuple[TaskSummary, ...]
    tuned: float
    untuned: float | None
    majority: float | None


@dataclass(frozen=True)
class Summary:
    """A run's result: suites in the order of its configuration, at its last evaluated step."""

    step: int
    suites: tuple[SuiteSummary, ...]


def summarise(model_dir: str | os.PathLike[str]) -> Summary | None:
    """Compares tuned, untuned and majority answers; None where nothing was evaluated."""
    past = history.read(model_dir)
    folder = epath.Path(model_dir) / predictions.FOLDER
    index = predictions.read_index(folder)
    if not past.evals or not index:
        return None
    last = max(past.evals)
    suites = []
    for name, tasks in index.items():
        rows = [
            _task(task, how, name, past, last, folder)
            for task, how in tasks.items()
            if how.headline and f"{name}/{task}/{how.headline}" in past.evals[last]
        ]
        if rows:
            suites.append(
                SuiteSummary(
                    name=name,
                    tasks=tuple(rows),
                    tuned=math.fsum(row.tuned for row in rows) / len(rows),
                    untuned=_mean([row.untuned for row in rows]),
                    majority=_mean([row.majority for row in rows]),
                )
            )
    return Summary(last, tuple(suites))


def write(model_dir: str | os.PathLike[str], summary: Summary) -> None:
    """Writes MODEL_DIR/summary.json."""
    text = json.dumps(asdict(summary), indent=1, ensure_ascii=False) + "\n"
    whole_files.write(epath.Path(model_dir) / FILE, text)


def table(summary: Summary) -> "Table":
    """Each task's and each suite's figures: tuned, untuned, majority answer."""
    from rich.table import Table

    out = Table(title=f"After {summary.step:,} steps (percent)", title_justify="left")
    out.add_column("task", overflow="fold")
    out.add_column("metric")
    for heading in ("tuned", "untuned", "majority"):
        out.add_column(heading, justify="right")
    for suite in summary.suites:
        out.add_section()
        rows = suite.tasks if len(suite.tasks) <= MOST_ROWS else ()
        for row in rows:
            figures = map(_figure, (row.tuned, row.untuned, row.majority))
            out.add_row(_cell(row.task), _cell(row.metric), *figures)
        count = len(suite.tasks)
        out.add_row(
            _cell(f"{suite.name}: mean of {count} task{'s' if count > 1 else ''}"),
            "score",
            *map(_figure, (suite.tuned, suite.untuned, suite.majority)),
            style="bold",
        )
    return out


def report(model_dir: str | os.PathLike[str], console: "Console | None" = None) -> Summary | None:
    """Writes summary.json and curves.png, and prints the table; what a run ends with.

    Args:
      model_dir: the run's folder.
      console: where the table goes; None to print nothing.

    Returns:
      The summary, or None where nothing was evaluated (the curves are drawn all the same).
    """
    from flanx.evaluation import curves

    summary = summarise(model_dir)
    if summary is not None:
        write(model_dir, summary)
        if console is not None:
            console.print(table(summary))
    curves.draw(model_dir, summary)
    return summary


def _task(
    task: str,
    how: predictions.TaskIndex,
    suite: str,
    past: history.History,
    last: int,
    folder: Any,
) -> TaskSummary:
    key = f"{suite}/{task}/{how.headline}"
    constant = None
    if how.file is not None:
        path = predictions.predictions_path(folder, how.file, last)
        if path.exists():
            constant = majority(how, predictions.read_predictions(path))
    return TaskSummary(
        task=task,
        metric=str(how.headline),
        examples=how.examples,
        tuned=past.evals[last][key],
        untuned=past.evals.get(0, {}).get(key),
        majority=constant.score if constant else None,
        majority_answer=constant.answer if constant else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _cell(text: str) -> "Text":
    from rich.text import Text

    return Text(printable(text))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
