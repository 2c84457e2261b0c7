import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.data.packing import fill, pack


@st.composite
def problems(draw):
    features = draw(st.integers(1, 4))
    capacity = draw(st.lists(st.integers(1, 200), min_size=features, max_size=features))
    count = draw(st.integers(0, 150))
    seed = draw(st.integers(0, 2**32))
    largest = np.maximum(np.array(capacity) // draw(st.sampled_from([1, 2, 8])), 1)
    smallest = draw(st.sampled_from([0, 1]))
    lengths = np.random.default_rng(seed).integers(smallest, largest + 1, (count, features))
    return lengths, np.array(capacity)


@given(problems())
def test_nothing_is_lost_and_nothing_overflows(problem):
    lengths, capacity = problem
    packing = pack(lengths, capacity)
    assert np.array_equal(np.sort(packing.order), np.arange(len(lengths)))
    assert packing.offsets[0] == 0
    assert packing.offsets[-1] == len(lengths)
    assert (np.diff(packing.offsets) > 0).all()
    for first, last in zip(packing.offsets, packing.offsets[1:], strict=False):
        assert (lengths[packing.order[first:last]].sum(axis=0) <= capacity).all()


@given(problems())
def test_is_a_pure_function(problem):
    first, second = pack(*problem), pack(*problem)
    assert np.array_equal(first.order, second.order)
    assert np.array_equal(first.offsets, second.offsets)


def slow_best_fit(lengths, capacity):
    """Best fit decreasing for one feature, written the obvious way."""
    free = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in range(len(free)) if free[row] >= length]
        if fitting:
            free[min(fitting, key=lambda row: free[row])] -= length
        else:
            free.append(capacity - length)
    return sorted(free)


def slow_best_fit_of_all(lengths, capacity):
    """Best fit decreasing over all features as `pack` tells it: the rows' number."""
    load = lengths.sum(axis=0) / capacity
    scarcest = np.argsort(-load, kind="stable")[0]
    rows = []
    for example in np.argsort(-(lengths / capacity).max(axis=1), kind="stable"):
        fitting = [row for row in rows if (row >= lengths[example]).all()]
        if fitting:
            row = min(fitting, key=lambda row: row[scarcest])
            row -= lengths[example]
        else:
            rows.append(capacity - lengths[example])
    return len(rows)


@given(problems())
def test_takes_no_more_rows_than_the_slow_obvious_version_but_for_ties(problem):
    lengths, capacity = problem
    if not len(lengths):
        return
    # Which of two rows with as many free cells of the scarcest feature is taken is left open.
    assert pack(lengths, capacity).rows <= slow_best_fit_of_all(lengths, capacity) * 1.1 + 1


@given(st.lists(st.integers(1, 64), min_size=1, max_size=200))
def test_one_feature_equals_the_slow_obvious_version(lengths):
    packing = pack(np.array(lengths)[:, None], [64])
    used = np.add.reduceat(np.array(lengths)[packing.order], packing.offsets[:-1])
    assert sorted((64 - used).tolist()) == slow_best_fit(lengths, 64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("capacity", [(256, 256), (1024, 32), (64, 512)])
def test_two_features_need_no_more_rows_than_first_fit_in_the_given_order(seed, capacity):
    draw = np.random.default_rng(seed)
    lengths = np.minimum(np.exp(draw.normal(3.5, 1, (400, 2))).astype(int) + 1, capacity)
    free = []
    for need in lengths:
        row = next((row for row in free if (row >= need).all()), None)
        if row is None:
            free.append(np.array(capacity) - need)
        else:
            row -= need
    assert pack(lengths, capacity).rows <= len(free)


def test_fills_rows_at_the_lengths_of_instruction_data():
    draw = np.random.default_rng(0)
    inputs = np.clip(np.exp(draw.normal(5.1, 0.75, 2048)), 10, 1024).astype(int)
    targets = np.clip(np.exp(draw.normal(1.6, 1.1, 2048)), 2, 256).astype(int)
    lengths = np.stack([inputs, targets], axis=1)
    packing = pack(lengths, [1024, 256])
    assert fill(lengths, [1024, 256], packing.rows)[0] > 0.985


def test_too_long_examples_are_refused():
    with pytest.raises(ValueError, match=r"example 1 of lengths \[3 9\] is longer than a row"):
        pack([[1, 1], [3, 9]], [8, 8])
    with pytest.raises(ValueError, match="do not go with"):
        pack([[1, 1]], [8])
