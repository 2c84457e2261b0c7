"""The end of a run: what tuning was worth on each task, as a table and as MODEL_DIR/summary.json.

Made from metrics.jsonl and eval/ alone, so that it can be made again at any time.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from etils import epath

from flanx import atomic_files
from flanx.evaluation import history, predictions
from flanx.evaluation.majority import majority
from flanx.terminal import plural, printable

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
      examples: number of examples that the figure is of.
      left_out: rows of the split that no example was made of; they are in no figure.
      trained_on: whether its dataset is one of those trained on; None where that is not known.
      tuned: at the last evaluation.
      untuned: before the first step; None where that was not evaluated.
      majority: of the best constant answer; None where there are no stored answers.
      majority_answer: that answer.
    """

    task: str
    metric: str
    examples: int
    left_out: int
    trained_on: bool | None
    tuned: float
    untuned: float | None
    majority: float | None
    majority_answer: str | None


@dataclass(frozen=True)
class SuiteSummary:
    """A suite's tasks and their means; a mean is None unless every task has the figure.

    Attributes:
      name: the suite's.
      tasks: tasks with a figure, which the means are of.
      examples: sum over them.
      left_out: rows left out, of them and of the tasks without an example.
      without_examples: tasks that no example is left of, and how many rows were left out of each.
      tuned, untuned, majority: means of the tasks' figures.
    """

    name: str
    tasks: tuple[TaskSummary, ...]
    examples: int
    left_out: int
    without_examples: Mapping[str, int]
    tuned: float
    untuned: float | None
    majority: float | None


@dataclass(frozen=True)
class Summary:
    """A run's result: suites in the order of its configuration, at its last evaluated step."""

    step: int
    suites: tuple[SuiteSummary, ...]


def summarise(model_dir: str | os.PathLike[str]) -> Summary | None:
    """Compares tuned, untuned and majority answers; None where nothing was evaluated.

    Raises:
      ValueError: eval/index.json is damaged.
    """
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
        empty = {
            task: sum(how.left_out.values()) for task, how in tasks.items() if not how.examples
        }
        if rows:
            suites.append(
                SuiteSummary(
                    name=name,
                    tasks=tuple(rows),
                    examples=sum(row.examples for row in rows),
                    left_out=sum(row.left_out for row in rows) + sum(empty.values()),
                    without_examples=empty,
                    tuned=math.fsum(row.tuned for row in rows) / len(rows),
                    untuned=_mean([row.untuned for row in rows]),
                    majority=_mean([row.majority for row in rows]),
                )
            )
    return Summary(last, tuple(suites))


def write(model_dir: str | os.PathLike[str], summary: Summary) -> None:
    """Writes MODEL_DIR/summary.json."""
    text = json.dumps(asdict(summary), indent=1, ensure_ascii=False) + "\n"
    atomic_files.write(epath.Path(model_dir) / FILE, text)


def table(summary: Summary) -> "Table":
    """Each task's and each suite's figures: tuned, untuned, majority answer, and of how many examples they are."""
    from rich.table import Table

    out = Table(title=f"After {summary.step:,} steps (percent)", title_justify="left")
    out.add_column("task", overflow="fold")
    out.add_column("metric")
    for heading in ("tuned", "untuned", "majority"):
        out.add_column(heading, justify="right")
    out.add_column("examples", justify="right")
    left_out = any(suite.left_out for suite in summary.suites)
    if left_out:
        out.add_column("left out", justify="right")
        out.caption = "left out: rows that no example was made of, too long for the lengths, say; in no figure"
        out.caption_justify = "left"

    def of(examples: int, rows: int) -> list[str]:
        return [f"{examples:,}", *([f"{rows:,}"] if left_out else [])]

    for suite in summary.suites:
        out.add_section()
        rows = suite.tasks if len(suite.tasks) <= MOST_ROWS else ()
        for row in rows:
            out.add_row(
                _cell(row.task),
                _cell(row.metric),
                *map(_figure, (row.tuned, row.untuned, row.majority)),
                *of(row.examples, row.left_out),
            )
        for task, lost in suite.without_examples.items() if rows else ():
            out.add_row(_cell(task), "-", "-", "-", "-", *of(0, lost))
        out.add_row(
            _cell(f"{suite.name}: mean of {plural(len(suite.tasks), 'task')}{_trained(suite)}"),
            "score",
            *map(_figure, (suite.tuned, suite.untuned, suite.majority)),
            *of(suite.examples, suite.left_out),
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

    try:
        summary = summarise(model_dir)
    except ValueError as error:
        summary = None
        if console is not None:
            console.print(
                f"{error}: no summary.json; `flanx eval {model_dir}` scores the run again",
                markup=False,
                soft_wrap=True,
            )
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
        with contextlib.suppress(FileNotFoundError, ValueError):  # damaged: nothing to compare with
            constant = majority(how, predictions.read_predictions(path))
    return TaskSummary(
        task=task,
        metric=str(how.headline),
        examples=how.scored or how.examples,
        left_out=sum(how.left_out.values()),
        trained_on=how.trained_on,
        tuned=past.evals[last][key],
        untuned=past.evals.get(0, {}).get(key),
        majority=constant.score if constant else None,
        majority_answer=constant.answer if constant else None,
    )


def _trained(suite: SuiteSummary) -> str:
    """How many of a suite's tasks are trained on, where that is some of them."""
    trained = sum(task.trained_on is True for task in suite.tasks)
    return f" ({trained:,} trained on)" if 0 < trained < len(suite.tasks) else ""


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _cell(text: str) -> "Text":
    from rich.text import Text

    return Text(printable(text))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
