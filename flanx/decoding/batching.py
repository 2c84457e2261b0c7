"""Rows of unequal length in batches of few shapes, so that few programs are compiled.

Rows are sorted by length and cut into batches: every batch is full but the last, which repeats its
last row. A batch is as wide as the rung of a short ladder that its longest row needs.
"""

from collections.abc import Iterator, Sequence

import numpy as np

SHORTEST_RUNG = 32


def ladder(longest: int, rungs: int = 4) -> tuple[int, ...]:
    """Widths that batches may have: `longest`, its half, quarter ..., rounded up to multiples of 8."""
    widths = {longest}
    for halvings in range(1, rungs):
        width = -(-longest // (8 << halvings)) * 8
        if width < SHORTEST_RUNG:
            break
        widths.add(width)
    return tuple(sorted(widths))


def finer(widths: Sequence[int]) -> tuple[int, ...]:
    """`widths`, and three quarters of each that is above the shortest: half the padding, twice the programs."""
    between = {-(-width * 3 // 32) * 8 for width in widths if width > SHORTEST_RUNG}
    return tuple(sorted({*widths, *(width for width in between if width > widths[0])}))


def rung(length: int, widths: Sequence[int]) -> int:
    """The least of the ascending `widths` that holds `length`; `length` itself above them all."""
    return next((width for width in widths if width >= length), length)


def batch_rows(total: int, batch_size: int, multiple: int = 1) -> int:
    """Rows of a batch: `batch_size`, or for fewer rows in all the next power of two.

    Rounded up to a multiple of `multiple`, the devices that share a batch.
    """
    rows = min(batch_size, 1 << max(total - 1, 0).bit_length())
    return -(-rows // multiple) * multiple


def batches(lengths: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Yields the row numbers of each batch, longest rows first.

    Args:
      lengths: int[n], length of each row; equal lengths keep their order.
      rows: rows of a batch; the last one may have fewer.
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    for start in range(0, len(order), rows):
        yield order[start : start + rows]


def padded(rows: Sequence[Sequence[int] | np.ndarray], count: int, width: int) -> np.ndarray:
    """int32[count, width]: `rows` padded with 0; the last row is repeated to fill up `count`.

    A repeated row, unlike an empty one, is finished when the real one is.
    """
    out = np.zeros((count, width), np.int32)
    for i in range(count):
        row = rows[min(i, len(rows) - 1)]
        out[i, : len(row)] = row
    return out
