"""The stream of training rows: block b is a pure function of (manifest, seed, b).

Block b holds, of each task, the places N_t(b) to N_t(b + 1) of its own endless sequence (`mixing`). Place n of a task
of s examples is example perm(n mod s) of epoch n div s, each epoch in an order of its own (`permutation`). The block's
examples are shuffled together, packed (`packing`), and the rows shuffled. Random choices hash (seed, task name, place):
a task that joins the mixture changes how many examples of the others stand in a block, never their order.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from flanx.data import mixing
from flanx.data.batches import FEATURES, Rows
from flanx.data.packing import one_a_row, pack
from flanx.data.permutation import combine, key, permute
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


class Stream:
    """Blocks of rows. Stores are opened when a block first needs them; only their offsets are copied.

    Attributes:
      blocks: number of blocks, None for a stream without end.
      values: for each feature, the flat tokens of every task opened so far, by task index.
      example_ids: the same for example ids.
      fingerprint: short hash of all that decides the rows.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        open_store: Callable[[int], Store],
        *,
        feature_lengths: Mapping[str, int],
        seed: int,
        block_size: int,
        pack: bool = True,
        epochs: int | None = None,
        content: str = "",
    ):
        """Lays out the stream; reads no tokens.

        Args:
          entries: the manifest's; those without examples or with rate 0 take no part.
          open_store: gives the store of entry i.
          feature_lengths: cells of a row.
          seed: seed of phases, permutations and order.
          block_size: examples of a block, about.
          pack: several examples a row, or one.
          epochs: None for an endless stream at the entries' rates, else every example that many times.
          content: fingerprint of the manifest, part of `fingerprint`.

        Raises:
          UserError: no task has both examples and a positive rate.
        """
        self._entries = entries
        self._open_store = open_store
        self._capacity = [int(feature_lengths[name]) for name in FEATURES]
        self._seed = seed
        self._pack = pack
        taking_part = [i for i, e in enumerate(entries) if e.examples > 0 and e.rate > 0]
        if not taking_part:
            raise UserError(
                f"nothing to train on: none of {len(entries)} tasks has both examples and a positive "
                "rate; see what was dropped with 'flanx tasks check'"
            )
        chosen = [entries[i] for i in taking_part]
        names = [entry.task for entry in chosen]
        sizes = [entry.examples for entry in chosen]
        if epochs is None:
            rates = [entry.rate for entry in chosen]
            self._mixing = mixing.endless(names, rates, block_size, seed)
        else:
            self._mixing = mixing.limited(names, sizes, epochs, block_size, seed)
        self.blocks = self._mixing.blocks
        self._tasks = np.array(taking_part, np.int32)
        self._sizes = np.array(sizes, np.int64)
        self._keys = np.array([key("task", seed, name) for name in names], np.uint64)
        # One flat array of every task's offsets, filled task by task: a block's lengths are then one gather. numpy
        # takes zeros lazily from the system, so tasks that are never opened cost no memory.
        self._bases = np.concatenate([[0], np.cumsum(self._sizes + 1)])
        self._offsets = [np.zeros(self._bases[-1], np.int64) for _ in FEATURES]
        self._opened = np.zeros(len(chosen), bool)
        nothing = np.zeros(0, np.uint16)
        self.values: dict[str, list[NDArray]] = {
            name: [nothing] * len(entries) for name in FEATURES
        }
        self.example_ids: list[NDArray] = [nothing] * len(entries)
        decides: list[Any] = [content, self._capacity, seed, block_size, pack, epochs]
        self.fingerprint = hashlib.blake2b(json.dumps(decides).encode(), digest_size=8).hexdigest()

    def ended(self, block: int) -> bool:
        """True where the stream has no block `block`."""
        return self.blocks is not None and block >= self.blocks

    def block(self, block: int) -> Rows:
        """The rows of one block; the cost does not depend on which."""
        task, place = self._places(block)
        size = self._sizes[task]
        epoch, within = np.divmod(place, size)
        index = permute(within, size, combine(self._keys[task], epoch))
        self._open(np.unique(task))
        at = self._bases[task] + index
        starts = np.stack([offsets[at] for offsets in self._offsets], axis=1)
        lengths = np.stack([offsets[at + 1] for offsets in self._offsets], axis=1) - starts
        packing = pack(lengths, self._capacity) if self._pack else one_a_row(task.size)
        order, offsets = packing.order, packing.offsets
        if self._pack:
            order, offsets = self._shuffled_rows(order, offsets, block)
        return Rows(offsets, self._tasks[task[order]], index[order], starts[order], lengths[order])

    def _places(self, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Task (among those taking part) and place of each example of a block.

        Tasks are shuffled; the places of one task stay in order, so that no epoch begins before the last has ended.
        """
        first, last = self._mixing.before(block), self._mixing.before(block + 1)
        counts = last - first
        task = np.repeat(np.arange(counts.size), counts)
        begin = np.cumsum(counts) - counts
        place = np.arange(task.size) - begin[task] + first[task]
        order_keys = self._keys[task] ^ np.uint64(key("order", self._seed, block))
        order = np.argsort(combine(order_keys, place), kind="stable")
        shuffled = task[order]
        in_order = np.empty_like(place)
        in_order[np.argsort(shuffled, kind="stable")] = place
        return shuffled, in_order

    def _shuffled_rows(
        self, order: NDArray[np.int64], offsets: NDArray[np.int64], block: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = np.diff(offsets)
        row_keys = combine(np.uint64(key("rows", self._seed, block)), np.arange(counts.size))
        rows = np.argsort(row_keys, kind="stable")
        counts = counts[rows]
        new_offsets = np.concatenate([[0], np.cumsum(counts)])
        source = np.arange(order.size) + np.repeat(offsets[rows] - new_offsets[:-1], counts)
        return order[source], new_offsets

    def _open(self, tasks: NDArray[np.int64]) -> None:
        for task in tasks[~self._opened[tasks]].tolist():
            entry_index = int(self._tasks[task])
            entry = self._entries[entry_index]
            store = self._open_store(entry_index)
            if store.num_examples != entry.examples:
                raise UserError(
                    f"token store of task '{entry.task}' holds {store.num_examples} examples where the "
                    f"manifest says {entry.examples}; run 'flanx cache' again"
                )
            for feature, name in enumerate(FEATURES):
                values, offsets = store.feature(name)
                self.values[name][entry_index] = values
                self._offsets[feature][self._bases[task] : self._bases[task + 1]] = offsets
            self._check_lengths(task, entry.task)
            self.example_ids[entry_index] = store.example_ids
            self._opened[task] = True

    def _check_lengths(self, task: int, name: str) -> None:
        for feature, capacity in enumerate(self._capacity):
            offsets = self._offsets[feature][self._bases[task] : self._bases[task + 1]]
            longest = int(np.diff(offsets).max())
            if longest > capacity:
                raise UserError(
                    f"task '{name}' has {FEATURES[feature]} of {longest} tokens, rows hold {capacity}; "
                    "raise TASK_FEATURE_LENGTHS, or cache the task for these lengths"
                )
