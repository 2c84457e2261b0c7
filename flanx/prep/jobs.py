"""Which units of work go together, which are cut in shards, and in which order they start."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from flanx.prep.plan import Plan
from flanx.prep.unit import Unit

_SPLIT = 4 << 20  # a task of fewer bytes of data is not worth cutting
_TOGETHER = 32  # small units that one process does in one go
_WAVES = 4  # no piece of work is larger than the fourth part of what a process has to do
_ROW = 400  # bytes that a row is reckoned at where there is no file


@dataclass(frozen=True, eq=False)
class Job:
    """What one process does in one go, or, for `shards` > 1, several processes for one task.

    Attributes:
      units: one after the other, since they read the same files; a single one where there are shards.
      cost: bytes of data to work through, by which the time that remains is reckoned.
      shards: pieces that the unit is cut in.
    """

    units: tuple[Unit, ...]
    cost: float
    shards: int = 1

    def pieces(self) -> list[Unit]:
        """The shards of a job that has some."""
        (unit,) = self.units
        return [replace(unit, shard=(i, self.shards)) for i in range(self.shards)]


def jobs(plans: Iterable[Plan], workers: int) -> list[Job]:
    """Every store's unit once, the most work first, so that no large piece is left for the end.

    Args:
      plans: what the requests need; units of one identity are one.
      workers: processes that will work side by side.
    """
    together: dict[tuple[object, ...], list[Unit]] = {}
    costs: dict[tuple[object, ...], float] = {}
    for p in plans:
        sizes: dict[str, int] = {}
        for one, unit in zip(p.selected, p.units, strict=True):
            if unit.identity in costs:
                continue
            data = p.data.get(unit.task, ())
            costs[unit.identity] = _cost(one, unit, data, sizes)
            files = (*data, unit.split) if data else unit.identity
            together.setdefault(files, []).append(unit)
    total = sum(costs.values())
    most = max(_SPLIT, total / (_WAVES * max(workers, 1)))
    found: list[Job] = []
    for units in together.values():
        found += _cut(units, [costs[unit.identity] for unit in units], most, workers)
    found.sort(key=lambda job: -job.cost)
    return _merged(found, min(1 << 20, total / (16 * max(workers, 1))))


def _cut(units: Sequence[Unit], costs: Sequence[float], most: float, workers: int) -> list[Job]:
    """One job where that is small enough, else a job a unit, of several shards where it is large by itself."""
    if workers < 2 or sum(costs) <= most:
        return [Job(tuple(units), sum(costs))]
    found = []
    for unit, cost in zip(units, costs, strict=True):
        shards = 1 if unit.bare else min(workers, -int(-cost // most))
        found.append(Job((unit,), cost, max(shards, 1)))
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
            and len(last.units) + len(job.units) <= _TOGETHER
        ):
            merged[-1] = Job((*last.units, *job.units), last.cost + job.cost)
        else:
            merged.append(job)
    return merged


def _cost(one: "object", unit: Unit, data: Sequence[str], sizes: dict[str, int]) -> float:
    spec = getattr(one, "spec", None)
    if data:
        size = sum(_size(path, sizes) for path in data)
    elif spec is not None and not spec.source.files(unit.split, unit.data_dir):
        size = _ROW * spec.source.count(unit.split, unit.data_dir)
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
