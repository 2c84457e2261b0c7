"""Several examples a row: best fit decreasing over all features together.

Nothing is lost and nothing is split. Examples are taken from the largest down, and each goes into the row that it
leaves with the fewest free cells of the scarcest feature. Rows are looked up in a bit set held in a Python integer, so
that the number of rows hardly matters: at the lengths of instruction data the first row looked at has room.
"""

import functools
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
    columns = np.ascontiguousarray(need.T)
    if need.size and (columns.max(axis=1) > room).any():
        first = int(np.flatnonzero((need > room).any(axis=1))[0])
        raise ValueError(f"example {first} of lengths {need[first]} is longer than a row, {room}")
    if not need.size:
        return Packing(np.zeros(0, np.int64), np.zeros(1, np.int64))
    load = columns.sum(axis=1) / room  # rows that each feature alone would take
    # Whole numbers from here on, so that no library's way of adding floats can change the order.
    parts = columns * (2**32 // room)[:, None]
    order = np.argsort(-parts.max(axis=0), kind="stable")
    scarcest_first = np.argsort(-load, kind="stable")
    columns, room = columns[scarcest_first], room[scarcest_first]
    row_of = _best_fit(columns[:, order].tolist(), room.tolist())
    if max(row_of) + 1 > np.ceil(load.max()) * _NEAR:
        # Where features are scarce alike, size is better told by their weighted sum.
        weights = (load / max(load.max(), 1.0) * 2**16).astype(np.int64)
        by_sum = np.argsort(-((parts * weights[:, None]).sum(axis=0) >> 16), kind="stable")
        other = _best_fit(columns[:, by_sum].tolist(), room.tolist())
        if max(other) < max(row_of):
            order, row_of = by_sum, other
    rows = np.array(row_of)
    by_row = np.argsort(rows, kind="stable")
    return Packing(order[by_row], np.concatenate([[0], np.cumsum(np.bincount(rows))]))


def fill(lengths: ArrayLike, capacity: ArrayLike, rows: int) -> NDArray[np.float64]:
    """float64[F]: share of the cells of `rows` rows that hold tokens, for each feature."""
    return np.asarray(lengths, np.int64).sum(axis=0) / (np.asarray(capacity) * max(rows, 1))


def _best_fit(columns: list[list[int]], capacity: list[int]) -> list[int]:
    """The row of each example, taken in order. `columns[f]` are the lengths of feature f, the scarcest first.

    Open rows are filed by their taken cells of the first feature; bit `taken` of `some` says whether any row is filed
    there, so that the best fit is the highest of the bits that leave room. A row's free cells of all other features are
    one integer, each with a borrow bit above it: subtracting an example's needs sets a borrow bit where, and only
    where, a feature has too little room.
    """
    full, *others = capacity
    widths = [cells.bit_length() + 1 for cells in others]
    shifts = [sum(widths[:place]) for place in range(len(widths))]
    empty = sum(cells << shift for cells, shift in zip(others, shifts, strict=True))
    borrows = sum(1 << (shift + width - 1) for shift, width in zip(shifts, widths, strict=True))
    needs = columns[1] if others else [0] * len(columns[0])
    for column, shift in zip(columns[2:], shifts[1:], strict=True):
        needs = [need + (cells << shift) for need, cells in zip(needs, column, strict=True)]
    filed: list[list[int]] = [[] for _ in range(full + 1)]  # by taken cells
    up_to = _low_bits(full)
    some = 0
    left: list[int] = []  # by row
    row_of: list[int] = []
    for cells, need in zip(columns[0], needs, strict=True):
        candidates = some & up_to[full - cells]
        while candidates:
            taken = candidates.bit_length() - 1
            rows = filed[taken]
            for row in rows:
                if not (left[row] - need) & borrows:
                    break
            else:
                candidates ^= 1 << taken
                continue
            rows.remove(row)
            if not rows:
                some ^= 1 << taken
            break
        else:
            row, taken = len(left), 0
            left.append(empty)
        left[row] -= need
        taken += cells
        rows = filed[taken]
        if not rows:
            some |= 1 << taken
        rows.append(row)
        row_of.append(row)
    return row_of


@functools.cache
def _low_bits(most: int) -> tuple[int, ...]:
    """Integers whose bits 0 to n are set, for n from 0 to `most`."""
    return tuple((2 << n) - 1 for n in range(most + 1))
