from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.data.mixing import SHARES, endless, limited, shares

rate_lists = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30)


def names(count):
    return [f"task{i}" for i in range(count)]


@given(rate_lists)
def test_shares_add_up_and_are_near_the_rates(rates):
    found = shares(rates)
    assert found.sum() == SHARES
    total = sum(map(Fraction, rates))
    for share, rate in zip(found.tolist(), rates, strict=True):
        assert abs(share - Fraction(rate) / total * SHARES) < 1.01


def test_shares_of_equal_rates_and_of_none():
    assert shares([1, 1, 1]).tolist() == [SHARES // 3 + 1, SHARES // 3, SHARES // 3]
    assert shares([0, 2, 0]).tolist() == [0, SHARES, 0]


@pytest.mark.parametrize("rates", [[0, 0], [], [1, -1], [1, float("nan")], [float("inf")]])
def test_impossible_rates(rates):
    with pytest.raises(ValueError, match="rate"):
        shares(rates)


@given(rate_lists, st.integers(1, 5000), st.integers(0, 2**40), st.integers(0, 9))
def test_counts_are_within_one_example_of_the_share(rates, block_size, block, seed):
    mixing = endless(names(len(rates)), rates, block_size, seed)
    counts = mixing.before(block)
    for count, share, phase in zip(
        counts.tolist(), shares(rates).tolist(), mixing.phases.tolist(), strict=True
    ):
        assert count == (block * block_size * share + phase) // SHARES
        assert abs(count - Fraction(block * block_size * share, SHARES)) < 1
    assert (mixing.before(block + 1) >= counts).all()


@given(rate_lists)
def test_the_stream_begins_with_nothing(rates):
    assert not endless(names(len(rates)), rates, 100, 0).before(0).any()


def test_rare_tasks_are_spread_over_the_blocks():
    mixing = endless(names(2000), [1] * 2000, 200, 0)
    lengths = [int((mixing.before(b + 1) - mixing.before(b)).sum()) for b in range(100)]
    assert abs(np.mean(lengths) - 200) < 2
    assert min(lengths) > 120
    assert max(lengths) < 280
    assert lengths != [int(n) for n in np.full(100, lengths[0])]


def test_phases_come_from_the_name():
    first = endless(["a", "b"], [1, 1], 10, 0)
    other = endless(["x", "b", "a"], [1, 1, 1], 10, 0)
    assert first.phases[0] == other.phases[2]
    assert first.phases[1] == other.phases[1]
    assert endless(["a", "b"], [1, 1], 10, 1).phases[0] != first.phases[0]


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=20),
    st.integers(1, 4),
    st.integers(1, 600),
    st.integers(0, 9),
)
def test_limited_streams_hold_every_example_and_end(sizes, epochs, block_size, seed):
    mixing = limited(names(len(sizes)), sizes, epochs, block_size, seed)
    assert not mixing.before(0).any()
    assert mixing.before(mixing.blocks).tolist() == [size * epochs for size in sizes]
    lengths = [
        (mixing.before(b + 1) - mixing.before(b)).sum() for b in range(min(mixing.blocks, 20))
    ]
    assert max(lengths) <= block_size + len(sizes)
