"""Batches of a mixture for one host, from any place of the stream, and a thread that makes them ahead of time."""

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from flanx.data.batches import FEATURES, Batch, LoaderState, Rows, assemble, join, row_and_segment
from flanx.data.mixing import MAX_BLOCK_SIZE
from flanx.data.stream import Store, Stream
from flanx.errors import UserError

if TYPE_CHECKING:
    from flanx.data.manifest import Manifest

__all__ = ["Batch", "Loader", "LoaderState", "Prefetch", "prefetch"]

Item = TypeVar("Item")


class Loader:
    """Iterates over batches; each `iter()` starts at `state` and owns its place.

    A global batch takes `batch_size` consecutive rows of the stream, across blocks; host h of H reads the rows from
    h * batch_size / H on. The stream knows nothing of batches and hosts, so both may change at a restart.

    Attributes:
      stream: short hash of all that decides the stream's rows; a state of another one is refused.
      state: where iteration starts.
    """

    def __init__(
        self,
        manifest: "Manifest",
        cache_dir: str | Path,
        *,
        batch_size: int,
        feature_lengths: Mapping[str, int],
        seed: int,
        state: LoaderState | None = None,
        host_index: int = 0,
        host_count: int = 1,
        pack: bool = True,
        block_size: int = 2048,
        epochs: int | None = None,
        open_store: Callable[[Path], Store] | None = None,
    ):
        """Lays out the stream; reads no tokens before iteration.

        Args:
          manifest: the mixture, resolved: tasks, rates, counts, stores.
          cache_dir: what the entries' paths are relative to.
          batch_size: rows of a global batch, over all hosts.
          feature_lengths: {"inputs": n, "targets": m}, cells of a row.
          seed: decides the order of examples.
          state: where to go on, None for the beginning.
          host_index: this host, from 0.
          host_count: hosts that share each batch.
          pack: several examples a row, or one.
          block_size: examples that are mixed, shuffled and packed together.
          epochs: None for an endless stream at the manifest's rates; else every example of every task that many
            times, in shares that follow from their numbers, then the end: the last batch is filled up with empty rows.
          open_store: opens a store's folder; `flanx.data.store.open` unless given.

        Raises:
          UserError: hosts that do not divide the batch, nothing to train on, or a state of another stream.
        """
        if batch_size < 1 or batch_size % host_count:
            raise UserError(
                f"BATCH_SIZE {batch_size} does not divide among {host_count} hosts; "
                f"take a multiple of {host_count}"
            )
        if not 0 <= host_index < host_count:
            raise ValueError(f"host {host_index} of {host_count}")
        if not 1 <= block_size <= MAX_BLOCK_SIZE:
            raise UserError(f"block_size {block_size} must be from 1 to {MAX_BLOCK_SIZE}")
        if epochs is not None and epochs < 1:
            raise ValueError(f"epochs must be at least 1, not {epochs}")
        opener = open_store or _store_opener()
        folder = Path(cache_dir).expanduser()
        entries = manifest.entries
        self._rows = Stream(
            entries,
            lambda index: opener(folder / entries[index].path),
            feature_lengths=feature_lengths,
            seed=seed,
            block_size=block_size,
            pack=pack,
            epochs=epochs,
            content=manifest.fingerprint,
        )
        self._feature_lengths = {name: int(feature_lengths[name]) for name in FEATURES}
        self._batch_size = batch_size
        share = batch_size // host_count
        self._host = (host_index * share, (host_index + 1) * share)
        self.stream = self._rows.fingerprint
        self.state = state or LoaderState()
        if self.state.stream not in ("", self.stream):
            raise UserError(
                f"the checkpoint's place in the data belongs to another stream ({self.state.stream}, this one is "
                f"{self.stream}): mixture, lengths, seed, packing and block size must stay as they were"
            )

    def __iter__(self) -> Iterator[Batch]:
        block, row = self.state.block, self.state.row
        current: tuple[int, Rows] | None = None
        while True:
            parts: list[Rows] = []
            missing = self._batch_size
            while missing and not self._rows.ended(block):
                if current is None or current[0] != block:
                    current = (block, self._rows.block(block))
                rows = current[1]
                if row > len(rows):
                    raise UserError(
                        f"the checkpoint's place in the data (block {block}, row {row}) is not in this stream: its "
                        f"block has {len(rows)} rows; mixture, lengths, seed and block size must stay as they were"
                    )
                stop = min(row + missing, len(rows))
                if stop > row:
                    parts.append(rows.cut(row, stop))
                missing -= stop - row
                block, row = (block + 1, 0) if stop == len(rows) else (block, stop)
            if not parts:
                return
            batch = join(parts)
            if missing:
                batch = batch.padded(self._batch_size)
            yield self._batch(batch.cut(*self._host), LoaderState(block, row, self.stream))

    def _batch(self, rows: Rows, state_after: LoaderState) -> Batch:
        row, segment = row_and_segment(rows)
        ids = self._rows.example_ids
        places = zip(rows.tasks.tolist(), rows.indices.tolist(), strict=True)
        tokens = rows.lengths.sum(axis=0).tolist()
        return Batch(
            arrays=assemble(rows, self._rows.values, self._feature_lengths),
            rows=row,
            segments=segment,
            tasks=rows.tasks,
            example_ids=np.array([ids[task][index] for task, index in places], np.int64),
            tokens=dict(zip(FEATURES, tokens, strict=True)),
            state_after=state_after,
        )


def prefetch(items: Iterable[Item], depth: int = 2) -> "Prefetch[Item]":
    """Makes items in a background thread, at most `depth` of them ahead of the consumer.

    The order is kept. An exception of the producer is raised in the consumer after the items made before it. Close it
    (or use `with`) to end the thread early; one that is garbage collected ends its thread as well.
    """
    return Prefetch(items, depth)


class Prefetch(Generic[Item]):
    """The iterator that `prefetch` gives."""

    def __init__(self, items: Iterable[Item], depth: int):
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._buffer: _Buffer[Item] = _Buffer(depth)
        # The thread holds the buffer, not this object: an iterator that nobody holds any longer can be collected.
        self._thread = threading.Thread(
            target=_produce, args=(items, self._buffer), name="flanx-prefetch", daemon=True
        )
        self._finalizer = weakref.finalize(self, self._buffer.close)
        self._thread.start()

    def __iter__(self) -> "Prefetch[Item]":
        return self

    def __next__(self) -> Item:
        return self._buffer.take()

    def close(self) -> None:
        """Ends the thread, after the item it is at; items made but not taken are dropped."""
        self._finalizer()
        self._thread.join()

    def __enter__(self) -> "Prefetch[Item]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Buffer(Generic[Item]):
    """A queue of bounded length that both sides may end."""

    def __init__(self, depth: int):
        self._depth = depth
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None

    def put(self, item: Item) -> bool:
        """Waits for room; False where the consumer has closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            if not self._closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self) -> Item:
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended or self._closed)
            if self._items:
                item = self._items.popleft()
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


def _produce(items: Iterable[Item], buffer: _Buffer[Item]) -> None:
    try:
        iterator = iter(items)
        try:
            for item in iterator:
                if not buffer.put(item):
                    break
        finally:
            if hasattr(iterator, "close"):
                iterator.close()
    except BaseException as error:
        buffer.end(error)
    else:
        buffer.end()


def _store_opener() -> Callable[[Path], Store]:
    from flanx.data import store

    def open_store(folder: Path) -> Store:
        try:
            return store.open(folder)
        except store.StoreDamaged as error:
            raise UserError(f"{error}; run 'flanx cache' again") from error

    return open_store
