"""Texts as words, and runs of words as 64-bit hashes, the same in every process and on every machine."""

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator

import numpy as np

# In the key of every sketch and overlap index, and of stores with filters. Raise it when the same text has other words,
# or the same words another hash.
VERSION = 1
# Scripts that write no spaces between words: there a character counts as a word (Thai, Lao, Khmer, Myanmar, kana,
# Han ideographs with their extensions, Hangul is spaced and stays whole).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_BASE = 0x9E3779B97F4A7C15 | 1  # odd, so that it has an inverse modulo 2**64
_MASK = (1 << 64) - 1


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation; a character each where a script has no spaces."""
    return _WORD.findall(text.casefold())


def word_hashes(text: str) -> np.ndarray:
    """np.uint64[number of words]."""
    return np.array(list(map(_HASHES.__getitem__, words(text))), np.uint64)


def runs(hashes: np.ndarray, n: int) -> np.ndarray:
    """Hashes of all runs of n words.

    Args:
      hashes: np.uint64[L], of `word_hashes`.
      n: words of a run; runs of different lengths never share a hash but by chance.

    Returns:
      np.uint64[max(L - n + 1, 0)], in order.
    """
    return next(runs_of_lengths(hashes, (n,)))


def runs_of_lengths(hashes: np.ndarray, lengths: Iterable[int]) -> Iterator[np.ndarray]:
    """`runs` for each of several lengths: polynomials of the words' hashes, modulo 2**64, by differences of sums."""
    size = len(hashes)
    # Tables of a power of two, so that texts of any length share a few; the inverses take a run's own place out of it.
    powers, inverses = _powers(1 << max(size, 1023).bit_length())
    sums = np.zeros(size + 1, np.uint64)
    np.cumsum(hashes * powers[:size], out=sums[1:])  # wraps around, as all of this is meant to
    for n in lengths:
        if size < n:
            yield np.zeros(0, np.uint64)
        else:
            of_length = np.uint64(n * _BASE & _MASK)
            yield (sums[n:] - sums[:-n]) * inverses[: size - n + 1] + of_length


def shingles(text: str, n: int) -> np.ndarray:
    """The set of a text's n-grams as sorted np.uint32; a text of fewer words is one n-gram, one of none is empty."""
    hashes = word_hashes(text)
    if not len(hashes):
        return np.zeros(0, np.uint32)
    return np.unique((runs(hashes, min(n, len(hashes))) >> np.uint64(32)).astype(np.uint32))


def mixed(values: np.ndarray) -> np.ndarray:
    """np.uint64 scrambled one to one: the finaliser of MurmurHash3."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


class _Hashes(dict[str, int]):
    """64 bits of each word, remembered for as many words as a language has."""

    def __missing__(self, word: str) -> int:
        if len(self) >= 1 << 18:
            self.clear()
        data = word.encode("utf-8", "surrogatepass")
        found = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
        self[word] = found
        return found


_HASHES = _Hashes()


@functools.lru_cache(8)
def _powers(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers of the base and of its inverse, modulo 2**64."""
    return _geometric(_BASE, size), _geometric(pow(_BASE, -1, 1 << 64), size)


def _geometric(ratio: int, size: int) -> np.ndarray:
    values = np.full(size, ratio, np.uint64)
    values[0] = 1
    return np.cumprod(values)
