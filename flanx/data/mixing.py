"""How many examples of each task stand in each block of the stream, in whole numbers.

Before block b stand N_t(b) = floor((b * step_t + phase_t) / divisor) examples of task t. The step is the task's
share of a block, so the count is within one example of the exact share after any number of blocks; the phase, drawn
from the task's name, spreads rare tasks over the blocks instead of dealing them all at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flanx.data.permutation import key

SHARES = 2**40  # what the shares of all tasks add up to
MAX_BLOCK_SIZE = 2**20  # so that block_size * share fits into int64

_SAFE_BLOCK = 2**22  # up to here block * remainder fits into int64


def shares(rates: Sequence[float]) -> NDArray[np.int64]:
    """Rates as whole shares that add up to exactly `SHARES` (largest remainder, ties to the first).

    Raises:
      ValueError: a rate is negative or not finite, or none is positive.
    """
    exact = np.asarray(rates, np.float64)
    if exact.ndim != 1 or not np.isfinite(exact).all() or (exact < 0).any():
        raise ValueError("rates must be finite and not negative")
    total = math.fsum(exact)  # exact, so the same on every machine
    if not total > 0:
        raise ValueError("no rate is positive")
    ideal = exact / total * SHARES
    whole = np.floor(ideal).astype(np.int64)
    rest = SHARES - int(whole.sum())
    order = np.argsort(whole - ideal, kind="stable")
    # Rounding of `ideal` can leave the floors a few units above or below.
    if rest >= 0:
        order = order[exact[order] > 0]
        whole += rest // order.size * (exact > 0)
        whole[order[: rest % order.size]] += 1
    else:
        whole[np.argmax(whole)] += rest
    return whole


@dataclass(frozen=True)
class Mixing:
    """The counts of a stream: `before(b)` is a pure function, linear in the number of tasks.

    Attributes:
      steps: int64[T], `divisor` times the examples of a task in one block.
      phases: int64[T] in [0, divisor).
      divisor: what both are measured in.
      blocks: number of blocks, None for a stream without end.
    """

    steps: NDArray[np.int64]
    phases: NDArray[np.int64]
    divisor: int
    blocks: int | None = None

    def before(self, block: int) -> NDArray[np.int64]:
        """int64[T]: examples of each task in all blocks before `block`."""
        whole, part = np.divmod(self.steps, self.divisor)
        if block < _SAFE_BLOCK:
            return block * whole + (block * part + self.phases) // self.divisor
        exact = (block * part.astype(object) + self.phases) // self.divisor
        return block * whole + exact.astype(np.int64)


def endless(tasks: Sequence[str], rates: Sequence[float], block_size: int, seed: int) -> Mixing:
    """Blocks of about `block_size` examples, each task at its rate, for ever.

    A block's length varies a little around `block_size`, at most `MAX_BLOCK_SIZE`; the mean is exact.
    """
    return Mixing(shares(rates) * block_size, _phases(tasks, SHARES, seed), SHARES)


def limited(
    tasks: Sequence[str], sizes: Sequence[int], epochs: int, block_size: int, seed: int
) -> Mixing:
    """Every example of every task exactly `epochs` times, spread evenly over the blocks, then the end.

    Rates play no part: the shares follow from the sizes.
    """
    total = np.asarray(sizes, np.int64) * epochs
    blocks = max(1, -(-int(total.sum()) // block_size))
    return Mixing(total, _phases(tasks, blocks, seed), blocks, blocks)


def _phases(tasks: Sequence[str], divisor: int, seed: int) -> NDArray[np.int64]:
    return np.array([key("phase", seed, task) % divisor for task in tasks], np.int64)
