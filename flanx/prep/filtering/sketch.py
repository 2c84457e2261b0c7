"""Sketches: what the duplicate filters have to know of each row of a dataset, in one Arrow file a dataset and split.

    <cache_dir>/sketches/<dataset>/<split>-<key>.arrow
        id       place of the row in its split (int64)
        exact    hash of the row's fields, white space evened out (uint64)
    and for NearDuplicates
        words    of inputs and targets together (int32)
        same     hash of the two sets of n-grams, and of the short answers as they are (uint64)
        bands    a hash of each band of the MinHash signature, and of the short answers (list of uint64)
        inputs, targets    the sets of n-grams, as sorted hashes (lists of uint32)

A sketch is made by the work item that caches the dataset's first task, and used again as long as the rows and the
filters' settings stand.
"""

import contextlib
import os

import numpy as np
import pyarrow as pa

FOLDER = "sketches"
BATCH = 4096  # rows a record batch


def whole(path: str | os.PathLike[str]) -> bool:
    """Whether the file is there with its Arrow footer."""
    with contextlib.suppress(OSError, pa.ArrowException):
        Sketch(path)
        return True
    return False


class Sketch:
    """A sketch file, memory-mapped.

    Attributes:
      ids: np.int64[n], places of the rows, ascending.
      exact: np.uint64[n].
    """

    def __init__(self, path: str | os.PathLike[str]):
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.ids = self._column("id", np.int64)
        self.exact = self._column("exact", np.uint64)

    @property
    def words(self) -> np.ndarray:
        """np.int32[n]: words of inputs and targets together."""
        return self._column("words", np.int32)

    @property
    def same(self) -> np.ndarray:
        """np.uint64[n]: equal for rows whose n-grams are all the same."""
        return self._column("same", np.uint64)

    def band(self, number: int) -> np.ndarray:
        """np.uint64[n]: one band of every row."""
        parts = []
        for batch in self._batches:
            column = batch.column("bands")
            flat = column.flatten().to_numpy()
            parts.append(flat[number :: column.type.list_size])
        return np.concatenate(parts) if parts else np.zeros(0, np.uint64)

    def sets(self, name: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The n-grams of some rows (ascending) on one side, "inputs" or "targets".

        Returns:
          Sorted np.uint32 of each row, one after the other; and how many each has, np.int64.
        """
        bounds = np.searchsorted(rows, np.arange(len(self._batches) + 1) * BATCH)
        values, sizes = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
        for number, batch in enumerate(self._batches):
            inside = rows[bounds[number] : bounds[number + 1]] - number * BATCH
            if len(inside):
                taken = batch.column(name).take(pa.array(inside))
                values.append(taken.flatten().to_numpy())
                sizes.append(np.diff(taken.offsets.to_numpy()))
        return np.concatenate(values), np.concatenate(sizes)

    def _column(self, name: str, dtype: type) -> np.ndarray:
        parts = [batch.column(name).to_numpy() for batch in self._batches]
        return np.concatenate(parts) if parts else np.zeros(0, dtype)
