"""Weighted lengths against counting by hand."""

import numpy as np
import pytest

from flanx.insight.distribution import weighted


@pytest.fixture
def lengths():
    # Half of training: lengths 2 and 4; the other half: 8, 8, 8 and 10, of which the store cut one.
    return weighted([(0.5, [2, 4], 0.0), (0.5, [8, 8, 8, 10], 0.25)], limit=10, longest=31)


def test_shares_weigh_tasks_by_their_rates(lengths):
    expected = np.zeros(11)
    expected[[2, 4, 8, 10]] = 0.25, 0.25, 0.375, 0.125
    np.testing.assert_allclose(lengths.shares, expected)
    assert lengths.mean == pytest.approx(0.25 * 2 + 0.25 * 4 + 0.375 * 8 + 0.125 * 10)
    assert (lengths.limit, lengths.longest, lengths.clipped) == (10, 31, 0.125)


@pytest.mark.parametrize(("percent", "length"), [(25, 2), (50, 4), (51, 8), (87.5, 8), (100, 10)])
def test_percentiles_are_lengths_that_are_there(lengths, percent, length):
    assert lengths.percentile(percent) == length


@pytest.mark.parametrize(
    ("length", "share"), [(1, 1.0), (4, 0.5), (9, 0.125), (10, 0.125), (64, 0.125)]
)
def test_over_counts_what_the_store_has_cut_as_longer(lengths, length, share):
    assert lengths.over(length) == pytest.approx(share)


@pytest.mark.parametrize(
    ("clip_rate", "multiple", "least"), [(0.5, 1, 4), (0.49, 1, 8), (0.13, 1, 8), (0.13, 64, 64)]
)
def test_least_length_within_a_clip_rate(lengths, clip_rate, multiple, least):
    assert lengths.least(clip_rate, multiple) == least


def test_no_length_suffices_where_the_store_has_cut_more(lengths):
    assert lengths.least(0.1, 1) is None


def test_nothing_clipped_needs_the_longest():
    assert weighted([(1.0, [3, 7], 0.0)], limit=20, longest=7).least(0.0, 1) == 7
