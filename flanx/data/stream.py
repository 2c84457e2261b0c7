"""The stream of training rows: block b is a pure function of (manifest, seed, b).

Block b holds, of each task, the places N_t(b) to N_t(b + 1) of its own endless sequence (`mixing`). Place n of a task
of s examples is example perm(n mod s) of epoch n div s, each epoch in an order of its own (`permutation`). The block's
examples are shuffled together, packed (`packing`), and the rows shuffled. Random choices hash (seed, task name, place):
a task that joins the mixture changes how many examples of the others stand in a block, never their order.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flanx.data import mixing
from flanx.data.batch_formats import BatchFormat, EncoderDecoder
from flanx.data.batches import Rows
from flanx.data.packing import pack
from flanx.data.permutation import combine, key, permute
from flanx.data.tokens import Entry, OpenStores, Store
from flanx.errors import UserError

LAYOUT = 2  # goes up with any change of what the rows of a stream are


class Stream:
    """Blocks of rows. Stores are opened when a block first needs them.

    Attributes:
      blocks: number of blocks, None for a stream without end.
      stores: where the tokens of its rows are.
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
        by_length: bool = False,
        content: str = "",
        batch_format: BatchFormat | None = None,
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
          by_length: without packing, a block's longest examples first instead of shuffled.
          content: fingerprint of the manifest, part of `fingerprint`.
          batch_format: columns of the store, and what an example takes of a row; an encoder-decoder's unless given.

        Raises:
          UserError: no task has both examples and a positive rate.
        """
        self._format = batch_format or EncoderDecoder(
            feature_lengths["inputs"], feature_lengths["targets"]
        )
        features = self._format.features
        capacity = [int(cells) for cells in self._format.capacity]
        self._capacity = capacity
        self._seed = seed
        self._pack = pack
        self._by_length = by_length and not pack
        taking_part = [i for i, e in enumerate(entries) if e.examples > 0 and e.rate > 0]
        if not taking_part:
            if full := sum(e.examples > 0 for e in entries):
                raise UserError(
                    f"nothing to train on: none of {full} tasks with examples has a rate above 0; give one a rate"
                )
            raise UserError(
                f"nothing to train on: none of {len(entries)} tasks has an example; "
                "see what was dropped with 'flanx tasks check'"
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
        self.stores = OpenStores(
            entries, open_store, features, [int(feature_lengths[name]) for name in features]
        )
        decides: list[Any] = [LAYOUT, content, self._capacity, seed, block_size, pack, epochs]
        decides += [self._by_length, *self._format.identity]
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
        entry = self._tasks[task]
        starts, lengths = self.stores.locate(entry, index)
        if self._pack:
            packing = pack(self._format.sizes(lengths), self._capacity)
            order, offsets = self._shuffled_rows(packing.order, packing.offsets, block)
        else:
            order, offsets = np.arange(task.size), np.arange(task.size + 1)
            if self._by_length:
                order = np.lexsort(-lengths.T[::-1])
        return Rows(offsets, entry[order], index[order], starts[order], lengths[order])

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
