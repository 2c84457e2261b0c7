"""What an evaluation leaves in MODEL_DIR/eval: answers, and an index that says how they are scored.

    eval/<task>-<step>.jsonl   one object an example: index, input, references, prediction, and for
                               ranked options also options and scores
    eval/index.json            the suites, their tasks, and each task's metrics and files

The summary is made from these and metrics.jsonl alone.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from etils import epath

from flanx import atomic_files

FOLDER = "eval"
INDEX = "index.json"


@dataclass(frozen=True)
class TaskIndex:
    """How one task of a suite is evaluated.

    Attributes:
      file: its predictions are `<file>-<step>.jsonl`; None where the suite asks for none.
      metrics: metric functions, as "module:name".
      headline: the figure that stands for the task, as named in metrics; None where it has none.
      headline_metric: the function that gives it, as "module:name".
      postprocessor: as "module:name", or None.
      examples: number of examples that were asked.
      scored: number of those that the headline is of.
      left_out: rows that no example was made of, by reason: few-shot rows in which no exemplar fits, say.
      trained_on: whether its dataset is one of those trained on; None where that is not known.
    """

    file: str | None
    metrics: tuple[str, ...]
    headline: str | None
    headline_metric: str | None
    postprocessor: str | None
    examples: int
    scored: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    trained_on: bool | None = None


Index = dict[str, dict[str, TaskIndex]]  # suite -> task -> how
Write = Callable[[os.PathLike[str] | str, str | bytes], None]  # as `flanx.atomic_files.write`


def no_examples(left_out: Mapping[str, int]) -> TaskIndex:
    """Of a task that has no example left: nothing is asked, and what was left out is counted."""
    return TaskIndex(None, (), None, None, None, 0, left_out=dict(left_out))


def file_stem(task: str) -> str:
    """A task's name as part of a file name."""
    return task.replace("/", ".")


def predictions_path(folder: os.PathLike[str] | str, stem: str, step: int) -> epath.Path:
    """`<folder>/<stem>-<step>.jsonl`."""
    return epath.Path(folder) / f"{stem}-{step}.jsonl"


def write_predictions(
    path: os.PathLike[str] | str,
    records: Iterable[Mapping[str, Any]],
    write: Write = atomic_files.write,
) -> None:
    """Writes one object a line, whole or not at all."""
    write(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def read_predictions(path: os.PathLike[str] | str) -> list[dict[str, Any]]:
    """Reads what `write_predictions` wrote.

    Raises:
      ValueError: it is damaged.
    """
    text = epath.Path(path).read_text(encoding="utf-8")
    try:
        records = [json.loads(line) for line in text.split("\n") if line]
    except RecursionError as error:
        raise ValueError(f"{path} is damaged") from error
    for record in records:
        if not isinstance(record, dict) or not _texts(record.get("references")):
            raise ValueError(f"{path} holds other things than answers")
    return records


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def write_index(
    folder: os.PathLike[str] | str, index: Index, write: Write = atomic_files.write
) -> None:
    """Writes eval/index.json."""
    fields = {
        suite: {task: asdict(how) for task, how in tasks.items()} for suite, tasks in index.items()
    }
    write(epath.Path(folder) / INDEX, json.dumps(fields, indent=1) + "\n")


def read_index(folder: os.PathLike[str] | str) -> Index:
    """Reads eval/index.json; empty where nothing was evaluated.

    Raises:
      ValueError: it is damaged.
    """
    path = epath.Path(folder) / INDEX
    if not path.exists():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        index = {
            suite: {
                task: TaskIndex(**{**how, "metrics": tuple(how["metrics"])})
                for task, how in tasks.items()
            }
            for suite, tasks in fields.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged") from error
    for how in (how for tasks in index.values() for how in tasks.values()):
        texts = (how.file, how.headline, how.headline_metric, how.postprocessor)
        if not all(isinstance(text, str | None) for text in (*texts, *how.metrics)) or not (
            isinstance(how.examples, int)
            and isinstance(how.scored, int)
            and isinstance(how.left_out, dict)
            and all(isinstance(rows, int) for rows in how.left_out.values())
        ):
            raise ValueError(f"{path} is damaged")
    return index
