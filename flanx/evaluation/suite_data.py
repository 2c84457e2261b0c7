"""The examples of a suite, gathered over its tasks so that batches can hold several tasks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flanx.data.manifest import Entry, Manifest
from flanx.data.store import TaskStore
from flanx.data.vocabulary import Vocabulary
from flanx.evaluation import metrics as metric_functions
from flanx.evaluation import postprocess
from flanx.evaluation.metrics import Metric, Need, needs_of
from flanx.evaluation.suites import EvalSuite


@dataclass(frozen=True)
class Task:
    """One task of a suite, with what scores it loaded.

    Attributes:
      entry: its place in the manifest.
      store: its examples.
      metrics: metric functions, in the order the task names them.
      postprocess: applied to predictions, references and options before a metric sees them.
    """

    entry: Entry
    store: TaskStore
    metrics: tuple[Metric, ...]
    postprocess: Callable[[str], str]

    def wants(self, need: Need) -> bool:
        """Whether one of the metrics is computed from `need`."""
        return any(needs_of(metric) == need for metric in self.metrics)


@dataclass(frozen=True)
class SuiteData:
    """A suite's tasks and the places of all their examples, tasks one after the other.

    Attributes:
      suite: what to evaluate, and how.
      manifest: its tasks and stores.
      tasks: the tasks.
      task_of: int64[n], index into `tasks` of each example.
      row_of: int64[n], its row in the task's store.
    """

    suite: EvalSuite
    manifest: Manifest
    tasks: tuple[Task, ...]
    task_of: np.ndarray
    row_of: np.ndarray

    def __len__(self) -> int:
        return len(self.task_of)

    def inputs(self, chosen: Sequence[int]) -> list[np.ndarray]:
        """Input ids of the chosen examples."""
        return [self.tasks[t].store.inputs(r) for t, r in self._places(chosen)]

    def targets(self, chosen: Sequence[int]) -> list[np.ndarray]:
        """Target ids of the chosen examples."""
        return [self.tasks[t].store.targets(r) for t, r in self._places(chosen)]

    def options(self, chosen: Sequence[int]) -> list[list[str] | None]:
        """Options of the chosen examples, None for one without."""
        return [self.tasks[t].store.options(r) or None for t, r in self._places(chosen)]

    def of_tasks(self, need: Need) -> list[int]:
        """Examples of the tasks that have a metric of this need."""
        wanting = np.array([task.wants(need) for task in self.tasks], bool)
        return np.flatnonzero(wanting[self.task_of]).tolist() if len(self) else []

    def first_of_tasks(self, most: int | None) -> list[int]:
        """The first `most` examples of each task; all for None."""
        if most is None:
            return list(range(len(self)))
        return np.flatnonzero(self.row_of < most).tolist()

    def _places(self, chosen: Sequence[int]) -> list[tuple[int, int]]:
        return [(int(self.task_of[i]), int(self.row_of[i])) for i in chosen]


def gather(suite: EvalSuite, manifest: Manifest, cache_dir: str) -> SuiteData:
    """Opens the stores of a suite.

    Raises:
      UserError: a metric or postprocessor that cannot be found.
      StoreDamaged: a store is not what `flanx cache` wrote.
    """
    tasks = tuple(
        Task(
            entry=entry,
            store=entry.open(cache_dir),
            metrics=tuple(metric_functions.resolve(name) for name in entry.metrics),
            postprocess=postprocess.resolve(entry.postprocessor) if entry.postprocessor else str,
        )
        for entry in manifest.entries
    )
    counts = [task.store.num_examples for task in tasks]
    rows = [np.arange(count) for count in counts]
    return SuiteData(
        suite=suite,
        manifest=manifest,
        tasks=tasks,
        task_of=np.repeat(np.arange(len(tasks)), counts),
        row_of=np.concatenate(rows) if rows else np.zeros(0, np.int64),
    )


def encode_options(options: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[list[Any]]:
    """Token ids of each question's options, end-of-sequence included; each text is encoded once."""
    texts = list(dict.fromkeys(text for choices in options for text in choices))
    ids = {
        text: [*row, vocabulary.eos_id]
        for text, row in zip(texts, vocabulary.encode_batch(texts), strict=True)
    }
    return [[ids[text] for text in choices] for choices in options]
