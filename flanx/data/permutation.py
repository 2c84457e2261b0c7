"""Shuffling without memory: a keyed bijection on [0, n), computed for single places of it, many tasks at a time.

A Feistel network over the smallest even-handed power of two that holds n, walked until it lands inside [0, n) ("cycle
walking": Black and Rogaway 2002, "Ciphers with arbitrary finite domains"). Everything is 64-bit integer arithmetic of
our own, so that a stream is the same under every version of numpy and on every machine.
"""

import hashlib
import json

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDS = 8

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def key(*parts: str | int) -> int:
    """64 bits that depend on all of `parts` and on nothing else (blake2b over their JSON)."""
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scrambles uint64 values, one to one (the finaliser of splitmix64, Steele et al. 2014)."""
    values = values ^ (values >> np.uint64(30))
    values *= _FIRST
    values ^= values >> np.uint64(27)
    values *= _SECOND
    values ^= values >> np.uint64(31)
    return values


def combine(keys: ArrayLike, numbers: ArrayLike) -> NDArray[np.uint64]:
    """One uint64 key for each pair of a key and a number; broadcasts."""
    keys = np.atleast_1d(np.asarray(keys, np.uint64))
    numbers = np.asarray(numbers).astype(np.uint64)
    return mix(mix(keys + np.uint64(_GOLDEN)) + (numbers + np.uint64(1)) * np.uint64(_GOLDEN))


def permute(places: ArrayLike, sizes: ArrayLike, keys: ArrayLike) -> NDArray[np.int64]:
    """Where each place goes in the permutation of [0, size) that its key chooses.

    For a fixed size and key the map is a bijection on [0, size). The three arguments broadcast against each other, so
    that the places of thousands of tasks, each of its own size and key, are computed in one call.

    Args:
      places: integers, 0 <= place < size.
      sizes: integers from 1 to 2**52.
      keys: uint64.

    Returns:
      int64 of the broadcast shape (at least one-dimensional).

    Raises:
      ValueError: a place lies outside [0, size).
    """
    places, sizes, keys = np.broadcast_arrays(
        np.atleast_1d(np.asarray(places, np.int64)),
        np.asarray(sizes, np.int64),
        np.asarray(keys, np.uint64),
    )
    if ((places < 0) | (places >= sizes)).any():
        raise ValueError("a place lies outside its permutation")
    shape = places.shape
    sizes, keys = sizes.ravel().astype(np.uint64), keys.ravel()
    found = places.ravel().astype(np.uint64)
    # frexp gives the bit length of size - 1 exactly below 2**53.
    bits = np.maximum(np.frexp((sizes - np.uint64(1)).astype(np.float64))[1], 2).astype(np.uint64)
    walking = np.arange(found.size)
    while walking.size:
        moved = _feistel(found[walking], bits[walking], keys[walking])
        found[walking] = moved
        walking = walking[moved >= sizes[walking]]
    return found.astype(np.int64).reshape(shape)


def _feistel(
    values: NDArray[np.uint64], bits: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """A bijection on [0, 2**bits): the two halves, equal or one bit apart, are scrambled by turns."""
    one = np.uint64(1)
    low_bits = bits - bits // np.uint64(2)
    low_mask = (one << low_bits) - one
    high_mask = (one << (bits - low_bits)) - one
    high, low = values >> low_bits, values & low_mask
    for round_ in range(ROUNDS):
        round_keys = keys + np.uint64((round_ + 1) * _GOLDEN % 2**64)
        if round_ % 2:
            low = low ^ (mix(high + round_keys) & low_mask)
        else:
            high = high ^ (mix(low + round_keys) & high_mask)
    return (high << low_bits) | low
