import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flanx.data.permutation import combine, key, mix, permute


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_is_a_bijection(size, chosen_key):
    permuted = permute(np.arange(size), size, chosen_key)
    assert np.array_equal(np.sort(permuted), np.arange(size))


def test_every_small_size_is_a_bijection():
    sizes = np.arange(1, 300)
    task = np.repeat(np.arange(sizes.size), sizes)
    places = np.concatenate([np.arange(size) for size in sizes])
    permuted = permute(places, sizes[task], combine(7, task))
    for number, size in enumerate(sizes):
        assert np.array_equal(np.sort(permuted[task == number]), np.arange(size))


@given(st.integers(2, 2**45), st.integers(0, 2**64 - 1), st.data())
def test_a_place_does_not_depend_on_what_is_asked_beside_it(size, chosen_key, data):
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=20))
    together = permute(places, size, chosen_key)
    assert together.tolist() == [int(permute(place, size, chosen_key)[0]) for place in places]
    assert ((together >= 0) & (together < size)).all()


def test_all_orders_are_as_likely():
    keys = combine(0, np.arange(24_000))
    orders = np.stack([permute(place, 4, keys) for place in range(4)], axis=1)
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for order in map(tuple, orders.tolist()):
        counts[order] += 1
    expected = 1000
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom, p = 0.001


@pytest.mark.parametrize("size", [2, 3, 7, 100, 1000])
def test_places_land_anywhere_alike(size):
    trials = 200 * size if size < 100 else 20_000
    landed = permute(size // 2, size, combine(1, np.arange(trials)))
    counts = np.bincount(landed, minlength=size)
    expected = trials / size
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < size - 1 + 4 * np.sqrt(2 * size) + 6


def test_neighbours_are_torn_apart():
    permuted = permute(np.arange(10_000), 10_000, 3)
    correlation = np.corrcoef(permuted[:-1], permuted[1:])[0, 1]
    assert abs(correlation) < 0.04


def test_outside_places_are_refused():
    with pytest.raises(ValueError, match="outside"):
        permute([0, 5], 5, 0)


def test_mix_matches_splitmix64():
    # Outputs of splitmix64 seeded with 0 (Vigna's splitmix64.c): the state grows by the golden ratio.
    states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert mix(states).tolist() == expected


def test_keys_depend_on_every_part_and_on_no_process():
    assert len({key("a", 1), key("a", 2), key("b", 1), key("a1"), key("a", "1")}) == 5
    code = (
        "from flanx.data.permutation import *; print(key('task', 3, 'x'), permute(5, 1000, 9)[0])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert runs[0] == runs[1] == f"{key('task', 3, 'x')} {permute(5, 1000, 9)[0]}\n"
