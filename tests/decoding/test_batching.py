"""Batches: every row once, few shapes, no wasted rows but in the last."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.decoding.batching import batch_rows, batches, ladder, padded, rung


@pytest.mark.parametrize(
    ("longest", "widths"),
    [(512, (64, 128, 256, 512)), (64, (32, 64)), (40, (40,)), (24, (24,)), (100, (32, 56, 100))],
)
def test_ladder(longest, widths):
    assert ladder(longest) == widths


def test_rung():
    assert [rung(n, (32, 64)) for n in (1, 32, 33, 64, 70)] == [32, 32, 64, 64, 70]


@pytest.mark.parametrize(
    ("total", "size", "multiple", "rows"),
    [(1000, 64, 1, 64), (5, 64, 1, 8), (1, 64, 1, 1), (5, 64, 8, 8), (100, 60, 8, 64)],
)
def test_batch_rows(total, size, multiple, rows):
    assert batch_rows(total, size, multiple) == rows


@given(st.lists(st.integers(1, 99), max_size=40), st.integers(1, 9))
def test_batches_hold_every_row_once_longest_first(lengths, rows):
    found = list(batches(np.array(lengths, np.int64), rows))
    flat = [i for batch in found for i in batch.tolist()]
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[i] for i in flat] == sorted(lengths, reverse=True)
    assert all(len(batch) == rows for batch in found[:-1])


def test_padded_repeats_the_last_row():
    got = padded([[1, 2, 3], [4]], count=4, width=5)
    assert got.dtype == np.int32
    assert got.tolist() == [[1, 2, 3, 0, 0], [4, 0, 0, 0, 0], [4, 0, 0, 0, 0], [4, 0, 0, 0, 0]]
