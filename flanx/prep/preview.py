"""What `flanx cache` would do: each task, its data, and whether its store is there. Nothing is rendered or written."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

from flanx.data import store
from flanx.data.request import StoreRequest
from flanx.prep.cache import check
from flanx.prep.cache_plan import CachePlan, plan
from flanx.prep.store_keys import store_path
from flanx.prep.work_item import WorkItem
from flanx.writable import check_folder


@dataclass(frozen=True)
class TaskPreview:
    """One task of a request.

    Attributes:
      task: its name.
      files: data files with their sizes; none for generated rows and SeqIO's own sources.
      examples: of the store that is there already; None where it has to be made.
      store_bytes: of that store's tokens.
    """

    task: str
    files: dict[str, int]
    examples: int | None = None
    store_bytes: int = 0


@dataclass(frozen=True)
class Preview:
    """One request: its tasks, the vocabulary that they are tokenised with, and notes on data that is not there."""

    request: StoreRequest
    vocabulary: str
    tasks: tuple[TaskPreview, ...]
    notes: tuple[str, ...]

    @property
    def missing(self) -> tuple[TaskPreview, ...]:
        """Tasks whose store has to be made."""
        return tuple(task for task in self.tasks if task.examples is None)


def preview(requests: Iterable[StoreRequest], *, workers: int | None = None) -> list[Preview]:
    """Plans each request as `flanx.prep.cache.cache` does.

    Raises:
      UserError: what `cache` would refuse before it renders a row.
    """
    wanted = list(requests)
    check(wanted, workers)
    found = []
    for request in wanted:
        planned = plan(request)
        tasks = tuple(_task(item, planned) for item in planned.items)
        found.append(Preview(request, planned.vocabulary.spec, tasks, planned.notes))
        if found[-1].missing:
            check_folder(request.cache_dir, "CACHE_DIR")
    return found


def _task(item: WorkItem, planned: CachePlan) -> TaskPreview:
    files = planned.data.get(item.task)
    if files is None:  # its data is missing: the error that caching it ends with
        store_path(item, planned.vocabulary)
    sizes = {file: os.path.getsize(file) for file in files or () if os.path.isfile(file)}
    try:
        there = store.open(os.path.join(item.cache_dir, store_path(item, planned.vocabulary)))
    except (store.StoreDamaged, OSError):
        return TaskPreview(item.task, sizes)
    return TaskPreview(item.task, sizes, there.num_examples, int(there.meta["bytes"]))
