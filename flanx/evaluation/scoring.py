"""Scores of one task's answers. A metric or postprocessor that fails costs its own scores, and nothing else."""

import linecache
import math
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flanx.evaluation import counts, metrics
from flanx.evaluation.metrics import Metric
from flanx.evaluation.suite_data import Task
from flanx.terminal import plural

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


@dataclass(frozen=True)
class Failure:
    """A user's function that raised, or gave no scores.

    Attributes:
      function: "metric 'module:name'" or "postprocessor 'module:name'".
      what: where in the user's file, and the error.
      task: whose scores are missing for it.
    """

    function: str
    what: str
    task: str


@dataclass
class Scores:
    """What a task scored.

    Attributes:
      values: by name, in percent.
      examples: number of examples behind each value.
      headline: the value that stands for the task, the first metric's first.
      source: the metric that gives it, as "module:name".
      failures: metrics whose values are missing.
    """

    values: dict[str, float] = field(default_factory=dict)
    examples: dict[str, int] = field(default_factory=dict)
    headline: str | None = None
    source: str | None = None
    failures: list[Failure] = field(default_factory=list)


def score(task: Task, records: Sequence[Mapping[str, Any]], *, generated: bool) -> Scores:
    """Every metric of a task that its records allow.

    Args:
      task: with its metrics and postprocessor.
      records: answers, as they are written.
      generated: whether answers were generated, or options ranked alone.
    """
    out = Scores()
    for name, metric in zip(task.entry.metrics, task.metrics, strict=True):
        ranking = metrics.needs_of(metric) == "option_scores"
        usable = [r for r in records if "scores" in r] if ranking else records
        if not usable or not (ranking or generated):
            continue
        try:
            clean = _cleaned(task, usable, ranking=ranking)
        except _Failed as failed:
            out.failures.append(Failure(failed.function, failed.what, task.entry.task))
            continue
        try:
            found = _numbers(_call(metric, clean, usable, ranking=ranking))
        except Exception as error:
            out.failures.append(Failure(f"metric '{name}'", where(error, metric), task.entry.task))
            continue
        out.values |= found
        out.examples |= dict.fromkeys(found, len(usable))
        if out.headline is None:
            out.headline, out.source = next(iter(found), None), name
    return out


def loss_scores(losses: Sequence[np.ndarray]) -> Scores:
    """Loss per token and the share of tokens right, of summed losses, right tokens and tokens of each example."""
    if not losses:
        return Scores()
    loss, correct, tokens = (math.fsum(column) for column in zip(*losses, strict=True))
    values = {"loss": loss / max(tokens, 1), "token_accuracy": 100.0 * correct / max(tokens, 1)}
    return Scores(values, dict.fromkeys(values, len(losses)))


def lines(failures: Iterable[Failure]) -> list[str]:
    """Failures for people, a line each: of one kind in many tasks, the first task and how many more."""
    tasks: dict[tuple[str, str], list[str]] = {}
    for one in dict.fromkeys(failures):  # a postprocessor fails once a metric, a task once a suite
        tasks.setdefault((one.function, one.what), []).append(one.task)
    return [
        f"{function} of task '{names[0]}'"
        + (f" and {plural(len(names) - 1, 'more task')}" if len(names) > 1 else "")
        + f" fails at {what}; its answers are kept, its scores are missing"
        for (function, what), names in tasks.items()
    ]


def where(error: BaseException, function: Callable[..., Any]) -> str:
    """`file:line: error` of the user's line that an exception came from, or else of the function's definition."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if _users(frame.filename)]
    if theirs:
        place = f"{theirs[-1].filename}:{theirs[-1].lineno}"
    elif code := getattr(function, "__code__", None):
        place = f"{code.co_filename}:{code.co_firstlineno}"
    else:
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
    text = " ".join(str(error).split())
    return f"{place}: {type(error).__name__}{f': {text}' if text else ''}"


class _Failed(Exception):
    """A postprocessor raised; the `function` and `what` of a `Failure`."""

    def __init__(self, function: str, what: str):
        super().__init__(function, what)
        self.function, self.what = function, what


@dataclass(frozen=True)
class _Clean:
    """Texts after the task's postprocessor, a list each for every record."""

    references: list[list[str]]
    answers: list[Any]  # texts, or lists of options


def _cleaned(task: Task, records: Sequence[Mapping[str, Any]], *, ranking: bool) -> _Clean:
    clean = task.postprocess
    try:
        references = [[clean(text) for text in r["references"]] for r in records]
        if ranking:
            return _Clean(references, [[clean(text) for text in r["options"]] for r in records])
        return _Clean(references, [clean(r["prediction"]) for r in records])
    except Exception as error:
        name = f"postprocessor '{task.entry.postprocessor}'"
        raise _Failed(name, where(error, clean)) from error


def _call(
    metric: Metric, clean: _Clean, records: Sequence[Mapping[str, Any]], *, ranking: bool
) -> Any:
    if ranking:
        return metric(clean.references, clean.answers, [r["scores"] for r in records])
    return metric(clean.references, clean.answers)


def _numbers(result: Any) -> dict[str, float]:
    """What a metric returned, as numbers by name."""
    if not isinstance(result, Mapping):
        raise TypeError(f"a metric returns {{name: percent}}, this one {type(result).__name__}")
    if taken := [name for name in result if counts.is_count(str(name))]:
        raise ValueError(f"'{taken[0]}' is a name of a count: choose another for the score")
    return {str(name): float(value) for name, value in result.items()}


def _users(file: str) -> bool:
    """Whether a source file is neither flanx's nor a library's."""
    if not os.path.isabs(file) or not linecache.getline(file, 1):
        return False
    return not file.startswith((f"{_OURS}{os.sep}", *(f"{path}{os.sep}" for path in _LIBRARIES)))
