"""Which work items go together, which are cut in shards, and in which order they start."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flanx.prep.cache_plan import CachePlan
from flanx.prep.work_item import WorkItem

_SPLIT = 4 << 20  # a task of fewer bytes of data is not worth cutting
_TOGETHER = 32  # small items that one process does in one go
_WAVES = 4  # no piece of work is larger than the fourth part of what a process has to do
_ROW = 400  # bytes that a row is reckoned at where there is no file


@dataclass(frozen=True, eq=False)
class Job:
    """What one process does in one go, or, for `shards` > 1, several processes for one task.

    Attributes:
      items: one after the other, since they read the same files; a single one where there are shards.
      cost: bytes of data to work through, by which the time that remains is reckoned.
      shards: pieces that the item is cut in.
    """

    items: tuple[WorkItem, ...]
    cost: float
    shards: int = 1

    def pieces(self) -> list[WorkItem]:
        """The shards of a job that has some."""
        (item,) = self.items
        return [replace(item, shard=(i, self.shards)) for i in range(self.shards)]


def jobs(plans: Iterable[CachePlan], workers: int) -> list[Job]:
    """Every store's item once, the most work first, so that no large piece is left for the end.

    Args:
      plans: what the requests need; items of one identity are one.
      workers: processes that will work side by side.
    """
    together: dict[tuple[object, ...], list[WorkItem]] = {}
    costs: dict[tuple[object, ...], float] = {}
    for p in plans:
        sizes: dict[str, int] = {}
        for one, item in zip(p.selected, p.items, strict=True):
            if item.identity in costs:
                continue
            data = p.data.get(item.task, ())
            costs[item.identity] = _cost(one, item, data, sizes)
            files = (*data, item.split) if data else item.identity
            together.setdefault(files, []).append(item)
    total = sum(costs.values())
    most = max(_SPLIT, total / (_WAVES * max(workers, 1)))
    found: list[Job] = []
    for items in together.values():
        found += _cut(items, [costs[item.identity] for item in items], most, workers)
    found.sort(key=lambda job: -job.cost)
    return _merged(found, min(1 << 20, total / (16 * max(workers, 1))))


def _cut(items: Sequence[WorkItem], costs: Sequence[float], most: float, workers: int) -> list[Job]:
    """One job where that is small enough, else a job an item, of several shards where it is large by itself."""
    if workers < 2 or sum(costs) <= most:
        return [Job(tuple(items), sum(costs))]
    found = []
    for item, cost in zip(items, costs, strict=True):
        shards = 1 if item.bare else min(workers, -int(-cost // most))
        found.append(Job((item,), cost, max(shards, 1)))
    return found


def _merged(found: Sequence[Job], little: float) -> list[Job]:
    """Neighbours put together, as long as they are little work: there is less to send, and one disk wait for many."""
    merged: list[Job] = []
    for job in found:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.shards == job.shards == 1
            and last.cost + job.cost <= little
            and len(last.items) + len(job.items) <= _TOGETHER
        ):
            merged[-1] = Job((*last.items, *job.items), last.cost + job.cost)
        else:
            merged.append(job)
    return merged


def _cost(one: "object", item: WorkItem, data: Sequence[str], sizes: dict[str, int]) -> float:
    spec = getattr(one, "spec", None)
    if data:
        size = sum(_size(path, sizes) for path in data)
    elif spec is not None and not spec.source.files(item.split, item.data_dir):
        size = _ROW * spec.source.count(item.split, item.data_dir)
    else:
        size = 0
    if spec is None or not spec.is_few_shot:
        return float(size)
    return float(
        size * (2 if spec.few_shot.from_row else 4)
    )  # exemplars of its own, or drawn and fitted


def _size(path: str, sizes: dict[str, int]) -> int:
    if path not in sizes:
        sizes[path] = os.path.getsize(path) if "://" not in path else 0
    return sizes[path]
