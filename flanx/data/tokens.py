"""Where the tokens of a mixture lie: stores opened when a block first needs them, read as one stretch of memory.

Opening a store copies its offsets, not its tokens. The offsets of all tasks share one array, so that the lengths of a
block of examples are one gather, however many tasks they come from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flanx.errors import UserError


class Entry(Protocol):
    """What the stream needs of a manifest's entry."""

    @property
    def task(self) -> str: ...
    @property
    def examples(self) -> int: ...
    @property
    def rate(self) -> float: ...


class Store(Protocol):
    """What the stream needs of a `flanx.data.store.TaskStore`."""

    @property
    def num_examples(self) -> int: ...
    @property
    def example_ids(self) -> NDArray: ...
    def feature(self, name: str) -> tuple[NDArray, NDArray]: ...


@dataclass(frozen=True)
class Tokens:
    """The flat tokens of one feature of many tasks, each in an array of its own, as slices of one stretch of memory.

    Slicing thousands of arrays costs cache misses for the arrays' own headers; this costs those of the tokens alone.

    Attributes:
      memory: from the first byte of the lowest array to the last of the highest. What lies between two arrays may not
        be there: only slices inside one of them can be read, and only as long as their owner keeps it.
      bases: int64[T], the byte in `memory` where a task's tokens begin; meaningless for a task without an array.
      dtype: of every token, uint16 or uint32.
    """

    memory: memoryview
    bases: NDArray[np.int64]
    dtype: np.dtype

    @classmethod
    def over(cls, spans: NDArray[np.int64], dtype: np.dtype) -> "Tokens":
        """Over arrays that the caller keeps: `spans[t]` is task t's `span`, or 0 and 0 where it has none."""
        there = spans[spans[:, 1] > 0]
        lowest, highest = int(there[:, 0].min()), int(there[:, 1].max())
        memory = memoryview(pa.foreign_buffer(lowest, highest - lowest))
        return cls(memory, spans[:, 0] - lowest, dtype)


def span(array: NDArray) -> tuple[int, int]:
    """Addresses of the begin and the end of a contiguous array."""
    begin = array.__array_interface__["data"][0]
    return begin, begin + array.nbytes


class OpenStores:
    """The stores of a mixture, as far as they were needed. Tasks are indices into the manifest's entries.

    Attributes:
      tokens: by feature, the tokens of every task opened so far.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        open_store: Callable[[int], Store],
        features: Sequence[str],
        capacity: Sequence[int],
    ):
        """Opens nothing.

        Args:
          entries: the manifest's.
          open_store: gives the store of entry i.
          features: names, in the order of the columns of everything that is returned.
          capacity: most tokens of each feature.
        """
        self._entries = entries
        self._open_store = open_store
        self._features = tuple(features)
        self._capacity = tuple(capacity)
        sizes = np.array([entry.examples for entry in entries], np.int64)
        self._bases = np.concatenate([[0], np.cumsum(sizes + 1)])
        # numpy takes zeros lazily from the system: tasks that are never opened cost no memory.
        self._offsets = np.zeros((self._bases[-1], len(features)), np.int64)
        self._spans = np.zeros((len(features), len(entries), 2), np.int64)
        self._types: dict[str, np.dtype] = {}
        self._stores: dict[int, Store] = {}
        self._arrays: list[NDArray] = []  # kept, since `tokens` only knows their addresses
        self._opened = np.zeros(len(entries), bool)
        self.tokens: dict[str, Tokens] = {}

    def locate(
        self, tasks: NDArray[np.int32], indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """int64[E, F] each: first token in the task's flat tokens, and number of tokens, of some examples.

        Raises:
          UserError: a store is damaged, not the manifest's, or holds examples longer than a row.
        """
        self._open(np.unique(tasks[~self._opened[tasks]]).tolist())
        at = self._bases[tasks] + indices
        starts = self._offsets[at]
        return starts, self._offsets[at + 1] - starts

    def example_ids(
        self, tasks: NDArray[np.int32], indices: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """int64[E]: ids of examples that were located before."""
        found = np.zeros(tasks.size, np.int64)
        for task in np.unique(tasks).tolist():
            here = tasks == task
            found[here] = self._stores[task].example_ids[indices[here]]
        return found

    def _open(self, tasks: Sequence[int]) -> None:
        for task in tasks:
            self._stores[task] = store = self._open_store(task)
            self._take(task, store)
            self._opened[task] = True
        if tasks:
            self.tokens = {
                name: Tokens.over(self._spans[feature], self._types[name])
                for feature, name in enumerate(self._features)
            }

    def _take(self, task: int, store: Store) -> None:
        entry = self._entries[task]
        if store.num_examples != entry.examples:
            raise UserError(
                f"token store of task '{entry.task}' holds {store.num_examples} examples where the "
                f"manifest says {entry.examples}; run 'flanx cache' again"
            )
        for feature, name in enumerate(self._features):
            values, offsets = store.feature(name)
            expected = self._types.setdefault(name, values.dtype)
            if values.dtype != expected:
                raise UserError(
                    f"task '{entry.task}' stores {name} as {values.dtype}, other tasks of the mixture as "
                    f"{expected}; run 'flanx cache' again"
                )
            _check_offsets(entry.task, name, offsets, values.size, self._capacity[feature])
            self._offsets[self._bases[task] : self._bases[task + 1], feature] = offsets
            self._spans[feature, task] = span(values)
            self._arrays.append(values)


def _check_offsets(
    task: str, feature: str, offsets: NDArray[np.int64], tokens: int, capacity: int
) -> None:
    lengths = offsets[1:] - offsets[:-1]
    # A slice beyond a store's tokens would read memory that is not the store's.
    if offsets[0] != 0 or offsets[-1] != tokens or lengths.min() < 0:
        raise UserError(
            f"token store of task '{task}': the offsets of {feature} do not go with its {tokens} "
            "tokens; run 'flanx cache' again"
        )
    if lengths.max() > capacity:
        raise UserError(
            f"task '{task}' has {feature} of {lengths.max()} tokens, rows hold {capacity}; "
            "raise TASK_FEATURE_LENGTHS, or cache the task for these lengths"
        )
