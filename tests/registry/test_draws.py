"""Draws: pure functions of their key, and fair."""

from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.registry.draws import Draws, fraction, rank


def test_equal_to_the_plain_definition():
    """Words of BLAKE2b over key and round, each scaled to the range."""
    words: list[int] = []
    for turn in range(2):
        digest = blake2b(f"0\x1fa.b\x1f7\x1frender\x1f{turn}".encode()).digest()
        words += reversed([int.from_bytes(digest[i : i + 8], "little") for i in range(0, 64, 8)])
    draws = Draws(0, "a.b", 7, "render")
    assert [draws.integer(1000) for _ in words] == [word * 1000 // 2**64 for word in words]


@pytest.mark.parametrize(
    "other", [(1, "a", 0, "p"), (0, "b", 0, "p"), (0, "a", 1, "p"), (0, "a", 0, "q")]
)
def test_every_part_of_the_key_counts(other: tuple[int, str, int, str]):
    first, second = Draws(0, "a", 0, "p"), Draws(*other)
    assert [first.integer(1000) for _ in range(4)] != [second.integer(1000) for _ in range(4)]


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 1000))
def test_sample_is_a_subset_without_repeats(n: int, k: int, index: int):
    drawn = Draws(0, "t", index, "p").sample(n, k)
    assert len(drawn) == len(set(drawn)) == min(n, k)
    assert set(drawn) <= set(range(n))


@given(st.lists(st.integers()), st.integers(0, 1000))
def test_shuffled_keeps_all(items: list[int], index: int):
    assert Counter(Draws(0, "t", index, "p").shuffled(items)) == Counter(items)


def test_fair():
    counts = Counter(Draws(3, "t", index, "p").integer(5) for index in range(20_000))
    assert all(abs(counts[i] - 4000) < 200 for i in range(5))  # 3.5 standard deviations
    places = Counter(tuple(Draws(3, "t", index, "p").sample(3, 3)) for index in range(12_000))
    assert len(places) == 6
    assert all(abs(count - 2000) < 150 for count in places.values())


def test_uniform_and_fraction_lie_in_the_unit_interval():
    values = [Draws(0, "t", i, "p").uniform() for i in range(1000)]
    values += [fraction(str(i), "p") for i in range(1000)]
    assert all(0 <= value < 1 for value in values)
    assert 0.45 < sum(values) / len(values) < 0.55


def test_nothing_to_choose_from():
    with pytest.raises(ValueError, match="cannot draw from 0"):
        Draws(0, "t", 0, "p").integer(0)


def test_rank_depends_on_seed_and_name():
    assert rank(0, "a") == rank(0, "a") != rank(1, "a") != rank(1, "b")
