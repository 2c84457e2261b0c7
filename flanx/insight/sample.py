"""What training would be given: lengths of the examples in the stream's first blocks, and how densely they pack."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flanx.data import store
from flanx.data.manifest import Manifest
from flanx.data.packing import fill, pack
from flanx.data.stream import Stream
from flanx.errors import UserError

BLOCKS = 4  # examples in them, 8,192, tell mean lengths to about one per cent
BLOCK_SIZE = 2048


@dataclass(frozen=True)
class Density:
    """How full rows are.

    Attributes:
      rows: rows that the sampled blocks take.
      examples: examples in them.
      inputs_fill, targets_fill: share of the cells that hold tokens.
    """

    rows: int
    examples: int
    inputs_fill: float
    targets_fill: float

    @property
    def examples_per_row(self) -> float:
        return self.examples / self.rows


def sample(
    manifest: Manifest,
    cache_dir: str | os.PathLike[str],
    *,
    blocks: int = BLOCKS,
    block_size: int = BLOCK_SIZE,
    seed: int = 0,
) -> list[NDArray[np.int64]]:
    """int64[n, 2] of each of the first blocks that training with this seed would read: inputs and targets lengths.

    Raises:
      UserError: nothing to train on, or a damaged store.
    """
    stream = Stream(
        manifest.entries,
        _opener(manifest, Path(cache_dir).expanduser()),
        feature_lengths=manifest.feature_lengths,
        seed=seed,
        block_size=block_size,
        pack=False,
    )
    return [stream.block(number).lengths for number in range(blocks)]


def density(blocks: Sequence[NDArray[np.int64]], capacity: Sequence[int], packed: bool) -> Density:
    """Packs each block as training does, after cutting its examples to the row.

    Args:
      blocks: what `sample` gave.
      capacity: cells of a row, inputs and targets.
      packed: False for one example a row.
    """
    cut = [np.minimum(lengths, capacity) for lengths in blocks]
    rows = sum(pack(part, capacity).rows if packed else len(part) for part in cut)
    both = np.concatenate(cut)
    inputs_fill, targets_fill = fill(both, capacity, rows)
    return Density(rows, len(both), float(inputs_fill), float(targets_fill))


def open_store(path: Path) -> store.TaskStore:
    """A store, or the user's error that names it."""
    try:
        return store.open(path)
    except store.StoreDamaged as error:
        raise UserError(f"{error}; run 'flanx cache' again, with --verify") from error


def _opener(manifest: Manifest, folder: Path) -> Callable[[int], store.TaskStore]:
    return lambda index: open_store(folder / manifest.entries[index].path)
