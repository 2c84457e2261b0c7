"""Which rows of a mixture are duplicates. Pure functions of the datasets' sketches, in the mixture's order.

The rule, for exact and near duplicates alike: rows are taken in order (datasets as the mixture lists them, rows as they
stand in their split), and a row goes if it is a duplicate of a row that stays. So the first of equals stays, what is
left holds no pair that would be found again, and of a chain A ~ B ~ C in which A and C differ, A and C stay.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flanx.data.filters import ExactDuplicates, Filter, NearDuplicates, label
from flanx.prep.filtering.sketch import Sketch
from flanx.prep.filtering.sketching import bands

# What bounds the search in families of rows that are alike, but not alike enough (generated arithmetic). A bucket that
# more rows share holds what the whole family says, as a stop word does; pairs that are nearer than their family meet in
# smaller ones as well.
_STAYING = 1024  # rows of a bucket that later ones are compared with, the first that stay
_COMPARED = 512  # rows that one is compared with, those of the most shared buckets

Say = Callable[[str], None]


@dataclass(frozen=True)
class MixtureRows:
    """All rows of a mixture, one after the other.

    Attributes:
      sketches: one a dataset, in the mixture's order.
      present: for each, np.bool_[n]: the row is in at least one store of the mixture.
    """

    sketches: Sequence[Sketch]
    present: Sequence[np.ndarray]

    @property
    def starts(self) -> np.ndarray:
        """np.int64[datasets + 1]: where each dataset's rows begin."""
        return np.concatenate([[0], np.cumsum([len(s.ids) for s in self.sketches])]).astype(
            np.int64
        )


def find(
    rows: MixtureRows,
    filters: Sequence[Filter],
    say: Say = lambda _: None,
    warn: Say = lambda _: None,
) -> dict[str, np.ndarray]:
    """Duplicates, by the name that each filter counts them under.

    Args:
      rows: the rows.
      filters: ExactDuplicates and NearDuplicates, in any order; exact ones go first.
      say: told what is going on, for mixtures that take a while.
      warn: told where not all of a family's rows were compared with each other.

    Returns:
      Rows that go, np.int64 ascending, numbered over the whole mixture; no row is in two of them.
    """
    alive = np.concatenate([np.zeros(0, np.bool_), *rows.present])
    found = {}
    for one in sorted(filters, key=lambda one: isinstance(one, NearDuplicates)):
        if isinstance(one, ExactDuplicates):
            keys = _gathered(rows, lambda s: s.exact, one.between_tasks)
            gone = _repeated(keys, np.flatnonzero(alive))
        elif isinstance(one, NearDuplicates):
            gone = _near(rows, one, alive.copy(), say, warn)
        else:
            continue
        alive[gone] = False
        found[label(one)] = np.sort(gone)
    return found


def _gathered(
    rows: MixtureRows, column: Callable[[Sketch], np.ndarray], between_tasks: bool
) -> np.ndarray:
    """A column of keys over all rows; where datasets are apart no two of them share a key but by chance."""
    parts = []
    for number, sketch in enumerate(rows.sketches):
        keys = column(sketch)
        salt = 0 if between_tasks else (number + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1
        parts.append(keys ^ np.uint64(salt))
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def _repeated(keys: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Those of the chosen rows (ascending) whose key an earlier one of them has."""
    order = np.argsort(keys[chosen], kind="stable")
    ordered = keys[chosen][order]
    return chosen[order[1:][ordered[1:] == ordered[:-1]]]


def _near(
    rows: MixtureRows, one: NearDuplicates, alive: np.ndarray, say: Say, warn: Say
) -> np.ndarray:
    for sketch, start in zip(rows.sketches, rows.starts, strict=False):
        alive[start : start + len(sketch.ids)] &= sketch.words >= one.shortest
    # Rows with the same n-grams would meet the same fate as the first of them.
    same = _repeated(_gathered(rows, lambda s: s.same, one.between_tasks), np.flatnonzero(alive))
    alive[same] = False
    met, buckets = _meetings(rows, one, alive, say)
    return np.concatenate([same, _greedy(rows, one.threshold, met, buckets, say, warn)])


def _meetings(
    rows: MixtureRows, one: NearDuplicates, alive: np.ndarray, say: Say
) -> tuple[np.ndarray, np.ndarray]:
    """(row, bucket) of every bucket of every band that several rows share, sorted by row; np.int32 both."""
    count = bands(one).count
    chosen = np.flatnonzero(alive)
    met: list[np.ndarray] = []
    buckets: list[np.ndarray] = []
    first_free = 0
    for number in range(count):
        keys = _gathered(rows, lambda s: s.band(number), one.between_tasks)[chosen]  # noqa: B023
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        bucket = np.cumsum(np.append(False, ordered[1:] != ordered[:-1]))[: len(ordered)]
        shared = np.bincount(bucket)[bucket] > 1
        _, names = np.unique(bucket[shared], return_inverse=True)
        met.append(chosen[order[shared]].astype(np.int32))
        buckets.append((names + first_free).astype(np.int32))
        first_free += int(names.max(initial=-1)) + 1
        say(f"near duplicates: band {number + 1} of {count} over {len(chosen):,} rows")
    all_met, all_buckets = np.concatenate(met), np.concatenate(buckets)
    order = np.argsort(all_met, kind="stable")
    return all_met[order], all_buckets[order]


def _greedy(
    rows: MixtureRows, threshold: float, met: np.ndarray, buckets: np.ndarray, say: Say, warn: Say
) -> np.ndarray:
    """Takes rows that share a bucket in order; a row goes if it is too similar to one that stays."""
    firsts = np.flatnonzero(np.diff(met, prepend=-1))
    ends = np.append(firsts[1:], len(met))
    chosen = met[firsts]
    inputs, targets = (
        _gathered_sets(rows, "inputs", chosen),
        _gathered_sets(rows, "targets", chosen),
    )
    # Of each bucket, the rows that stay, as places in `chosen`.
    sizes = np.minimum(np.bincount(buckets), _STAYING)
    starts = np.cumsum(sizes) - sizes
    filled = np.zeros(len(sizes), np.int64)
    slots = np.zeros(int(sizes.sum()), np.int32)
    gone = np.zeros(len(chosen), np.bool_)
    bounded = 0
    for place, (begin, end) in enumerate(zip(firsts.tolist(), ends.tolist(), strict=False)):
        own = buckets[begin:end]
        spans = zip(starts[own].tolist(), filled[own].tolist(), strict=True)
        others = [slots[start : start + count] for start, count in spans if count]
        if others:
            candidates, times = np.unique(np.concatenate(others), return_counts=True)
            if len(candidates) > _COMPARED:
                bounded += 1
                candidates = candidates[np.argsort(-times, kind="stable")[:_COMPARED]]
            for sets in (targets, inputs):
                candidates = candidates[sets.similar(place, candidates) >= threshold]
            gone[place] = len(candidates) > 0
        if not gone[place]:
            room = own[filled[own] < sizes[own]]
            slots[starts[room] + filled[room]] = place
            filled[room] += 1
        if place % 1000 == 999:
            say(f"near duplicates: {place + 1:,} of {len(chosen):,} rows compared")
    if bounded:
        warn(
            f"near duplicates: {bounded:,} rows have more than {_COMPARED} rows like them and were compared with the "
            "likeliest alone; some duplicates among them may be left"
        )
    return chosen[gone]


def _gathered_sets(rows: MixtureRows, name: str, chosen: np.ndarray) -> "Sets":
    """One side's n-grams of the chosen rows (ascending), in memory."""
    starts = rows.starts
    bounds = np.searchsorted(chosen, starts)
    values = [np.zeros(0, np.uint32)]
    lengths = [np.zeros(0, np.int64)]
    for number, sketch in enumerate(rows.sketches):
        inside = chosen[bounds[number] : bounds[number + 1]] - starts[number]
        if len(inside):
            flat, sizes = sketch.sets(name, inside)
            values.append(flat)
            lengths.append(sizes)
    return Sets(np.concatenate(values), np.concatenate(lengths))


class Sets:
    """Many sets of numbers, each sorted without repeats.

    Args:
      values: all their members, one set after the other.
      sizes: how many each has.
    """

    def __init__(self, values: np.ndarray, sizes: np.ndarray):
        self._values = values
        self._sizes = sizes
        self._starts = np.cumsum(sizes) - sizes

    def similar(self, one: int, others: np.ndarray) -> np.ndarray:
        """Jaccard similarity of a set with others, np.float64[len(others)]; two empty sets are the same."""
        start, size = self._starts[one], self._sizes[one]
        own = self._values[start : start + size]
        sizes = self._sizes[others]
        if not size:
            return (sizes == 0).astype(np.float64)
        begins = np.cumsum(sizes) - sizes
        places = np.arange(sizes.sum()) + np.repeat(self._starts[others] - begins, sizes)
        members = self._values[places]
        hits = own.take(np.searchsorted(own, members), mode="clip") == members
        sums = np.concatenate([[0], np.cumsum(hits)])
        shared = sums[begins + sizes] - sums[begins]
        similarity: np.ndarray = shared / (sizes + size - shared)
        return similarity
