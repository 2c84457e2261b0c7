"""How long the examples are that training sees: the lengths of every task, weighted by the mixture's rates."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Lengths:
    """The distribution of one feature's length over the examples that training meets.

    Attributes:
      shares: float64[limit + 1]; `shares[n]` of the examples have n tokens, end-of-sequence included. They add up to 1.
      clipped: share that the store itself has cut to `limit` tokens.
      longest: most tokens before cutting.
    """

    shares: NDArray[np.float64]
    clipped: float = 0.0
    longest: int = 0

    @property
    def limit(self) -> int:
        """The length that the store was cut to."""
        return len(self.shares) - 1

    @property
    def mean(self) -> float:
        return float(self.shares @ np.arange(len(self.shares)))

    def percentile(self, percent: float) -> int:
        """The least length that at least `percent` of the examples do not exceed."""
        reached = np.cumsum(self.shares) >= percent / 100 - 1e-12
        return int(np.argmax(reached)) if reached.any() else self.limit

    def over(self, length: int) -> float:
        """Share of the examples that are longer than `length`; from `limit` on at most what the store has cut."""
        if length >= self.limit:
            return self.clipped
        return float(self.shares[length + 1 :].sum())

    def least(self, clip_rate: float, multiple: int) -> int | None:
        """The least multiple of `multiple` that cuts at most `clip_rate` of the examples; None: beyond `limit`."""
        over = 1 - np.cumsum(self.shares[:-1])
        fits = np.flatnonzero(over <= clip_rate + 1e-12)
        if not fits.size and self.clipped > clip_rate:
            return None
        least = int(fits[0]) if fits.size else self.limit
        return max(-(-least // multiple), 1) * multiple


def weighted(
    parts: Iterable[tuple[float, ArrayLike, float]], limit: int, longest: int = 0
) -> Lengths:
    """Puts the tasks' lengths together.

    Args:
      parts: of each task its share of training, its examples' lengths, and the share of them that were cut.
      limit: the length that the store was cut to.
      longest: most tokens before cutting.
    """
    shares = np.zeros(limit + 1)
    clipped = 0.0
    for share, lengths, cut in parts:
        counts = np.bincount(np.asarray(lengths), minlength=limit + 1)
        shares += counts * (share / max(int(counts.sum()), 1))
        clipped += share * cut
    total = shares.sum()
    return Lengths(shares / total if total else shares, clipped, longest)
