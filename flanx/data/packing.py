"""Several examples a row: best fit decreasing over all features together.

Nothing is lost and nothing is split. Examples are taken from the largest down, and each goes into the row that it
leaves with the fewest free cells of the scarcest feature. Rows are looked up in bit sets held in Python integers: an
example costs two to five microseconds at the lengths of instruction data, whatever the number of rows.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NEAR = 1.005  # rows over the least possible number that are not worth a second attempt


@dataclass(frozen=True)
class Packing:
    """Which examples share a row.

    Attributes:
      order: int64[N], the examples sorted by row.
      offsets: int64[R + 1]; row r holds `order[offsets[r]:offsets[r + 1]]`.
    """

    order: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return self.offsets.size - 1


def pack(lengths: ArrayLike, capacity: ArrayLike) -> Packing:
    """Packs examples into rows; a pure function of its arguments.

    Args:
      lengths: int[N, F], cells that each example needs of each feature.
      capacity: int[F], cells of a row.

    Raises:
      ValueError: an example is longer than a row.
    """
    need = np.asarray(lengths, np.int64)
    room = np.asarray(capacity, np.int64)
    if need.ndim != 2 or need.shape[1:] != room.shape:
        raise ValueError(f"lengths {need.shape} do not go with capacity {room.shape}")
    too_long = np.flatnonzero((need > room).any(axis=1))
    if too_long.size:
        first = int(too_long[0])
        raise ValueError(f"example {first} of lengths {need[first]} is longer than a row, {room}")
    if not need.size:
        return Packing(np.zeros(0, np.int64), np.zeros(1, np.int64))
    load = need.sum(axis=0) / room  # rows that each feature alone would take
    order = np.argsort(-(need / room).max(axis=1), kind="stable")
    # Whole numbers, so that no library's way of adding floats can change the order.
    weights = (load / (max(load.max(), 1.0) * room) * 2**32).astype(np.int64)
    size = need @ weights
    scarcest_first = np.argsort(-load, kind="stable")
    need, room = need[:, scarcest_first], room[scarcest_first]
    row_of = _best_fit(need[order].T.tolist(), room.tolist())
    if max(row_of) + 1 > np.ceil(load.max()) * _NEAR:
        # Where features are scarce alike, size is better told by their weighted sum.
        by_sum = np.argsort(-size, kind="stable")
        other = _best_fit(need[by_sum].T.tolist(), room.tolist())
        if max(other) < max(row_of):
            order, row_of = by_sum, other
    by_row = np.argsort(row_of, kind="stable")
    return Packing(order[by_row], np.concatenate([[0], np.cumsum(np.bincount(row_of))]))


def one_a_row(examples: int) -> Packing:
    """No packing: each example has a row of its own, in the order given."""
    return Packing(np.arange(examples), np.arange(examples + 1))


def fill(lengths: ArrayLike, capacity: ArrayLike, rows: int) -> NDArray[np.float64]:
    """float64[F]: share of the cells of `rows` rows that hold tokens, for each feature."""
    return np.asarray(lengths, np.int64).sum(axis=0) / (np.asarray(capacity) * max(rows, 1))


def _best_fit(columns: list[list[int]], capacity: list[int]) -> list[int]:
    """The row of each example, taken in order. `columns[f]` are the lengths of feature f, the scarcest first.

    An open row is filed by its free cells of the first feature, and by the bit length ("level") of those of the second.
    Bit `free` of `some[level]` says whether any row is filed there.
    """
    full, *full_others = capacity
    levels = full_others[0].bit_length() + 1 if full_others else 1
    some = [0] * levels
    filed: dict[int, list[int]] = defaultdict(list)
    free_others: list[list[int]] = []  # by row
    row_of: list[int] = []
    for need, *need_others in zip(*columns, strict=True):
        lowest = need_others[0].bit_length() if need_others else 0
        candidates = 0
        for bits in some[lowest:]:
            candidates |= bits
        candidates >>= need
        free, row, level = need - 1, -1, 0
        while candidates and row < 0:
            skip = (candidates & -candidates).bit_length()
            candidates >>= skip
            free += skip
            for level in range(lowest, levels):
                if some[level] >> free & 1:
                    rows = filed[free * levels + level]
                    row = _first_that_holds(rows, free_others, need_others)
                    if row >= 0:
                        break
        if row < 0:
            row, free = len(free_others), full
            free_others.append(list(full_others))
        else:
            rows = filed[free * levels + level]
            rows.remove(row)
            if not rows:
                some[level] ^= 1 << free
        left = free_others[row]
        for feature, taken in enumerate(need_others):
            left[feature] -= taken
        free -= need
        level = left[0].bit_length() if left else 0
        filed[free * levels + level].append(row)
        some[level] |= 1 << free
        row_of.append(row)
    return row_of


def _first_that_holds(rows: list[int], free_others: list[list[int]], need: list[int]) -> int:
    """The first of some rows with enough free cells of the other features, or -1."""
    for row in rows:
        if all(map(int.__ge__, free_others[row], need)):
            return row
    return -1
