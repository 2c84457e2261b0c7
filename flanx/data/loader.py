"""Batches of a mixture for one host, from any place of the stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flanx.data.batch_formats import BatchFormat, EncoderDecoder
from flanx.data.batches import FEATURES, Batch, LoaderState, Rows, join, row_and_segment
from flanx.data.mixing import MAX_BLOCK_SIZE
from flanx.data.prefetch import Prefetch, prefetch
from flanx.data.stream import Stream
from flanx.data.tokens import Store
from flanx.errors import UserError

if TYPE_CHECKING:
    from flanx.data.manifest import Manifest

__all__ = ["Batch", "Loader", "LoaderState", "Prefetch", "prefetch"]


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
        host_rows: Sequence[tuple[int, int]] | None = None,
        pack: bool = True,
        block_size: int = 2048,
        epochs: int | None = None,
        widths: Mapping[str, Sequence[int]] | None = None,
        open_store: Callable[[Path], Store] | None = None,
        batch_format: BatchFormat | None = None,
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
          host_rows: rows of a global batch that this host reads, as ascending (start, stop), where they are not its
            even share: several hosts may read the same (`flanx.sharding.mesh.host_rows`).
          pack: several examples a row, or one.
          block_size: examples that are mixed, shuffled and packed together.
          epochs: None for an endless stream at the manifest's rates; else every example of every task that many
            times, in shares that follow from their numbers, then the end: the last batch is filled up with empty rows.
          widths: without packing, for evaluation: {"inputs": (...), "targets": (...)}, the widths that batches may
            have, the last at least the feature's length. The longest examples of a block come first, and a batch is
            as wide as the least width that holds it: few shapes to compile, little padding. None: all as wide as
            `feature_lengths`.
          open_store: opens a store's folder; `flanx.data.store.open` unless given.
          batch_format: what rows are made of; an encoder-decoder's unless given, the only one with `widths`.

        Raises:
          UserError: hosts that do not divide the batch, nothing to train on, or a state of another stream.
          ValueError: widths with packing, or too narrow ones.
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
        self._widths = _widths(feature_lengths, None if pack else widths)
        if pack and widths is not None:
            raise ValueError("widths are for rows of one example: give pack=False with them")
        self._format = batch_format or EncoderDecoder(
            feature_lengths["inputs"], feature_lengths["targets"]
        )
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
            by_length=widths is not None,
            content=manifest.fingerprint,
            batch_format=self._format,
        )
        self._batch_size = batch_size
        share = batch_size // host_count
        self._host = host_rows or [(host_index * share, (host_index + 1) * share)]
        self.stream = self._rows.fingerprint
        self.state = state or LoaderState()
        if self.state.stream not in ("", self.stream):
            raise UserError(
                f"the checkpoint's place in the data belongs to another stream ({self.state.stream}, this one is "
                f"{self.stream}): mixture, lengths, seed, packing and block size must stay as they were"
            )

    def __iter__(self) -> Iterator[Batch]:
        _keep_freed_memory()
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
            widths = self._widths_of(batch)
            mine = join([batch.cut(*rows) for rows in self._host])
            yield self._batch(mine, widths, LoaderState(block, row, self.stream))

    def _widths_of(self, rows: Rows) -> dict[str, int]:
        """Of a global batch, so that all hosts agree."""
        longest = dict(zip(FEATURES, rows.lengths.max(axis=0, initial=0).tolist(), strict=True))
        return {
            name: next(width for width in widths if width >= longest[name] or width == widths[-1])
            for name, widths in self._widths.items()
        }

    def _batch(self, rows: Rows, widths: Mapping[str, int], state_after: LoaderState) -> Batch:
        row, segment = row_and_segment(rows)
        tokens = rows.lengths.sum(axis=0).tolist()
        return Batch(
            arrays=self._format.arrays(rows, self._rows.stores.tokens, widths),
            rows=row,
            segments=segment,
            tasks=rows.tasks,
            indices=rows.indices,
            tokens=dict(zip(FEATURES, tokens, strict=True)),
            state_after=state_after,
            ids_of=self._rows.stores.example_ids,
        )


def _widths(
    feature_lengths: Mapping[str, int], given: Mapping[str, Sequence[int]] | None
) -> dict[str, list[int]]:
    """The widths that batches may have of each feature, ascending."""
    if given is None:
        return {name: [int(feature_lengths[name])] for name in FEATURES}
    for name in FEATURES:
        if max(given[name]) < feature_lengths[name]:
            raise ValueError(f"widths {given[name]} hold no {name} of {feature_lengths[name]}")
    return {name: sorted(given[name]) for name in FEATURES}


def _keep_freed_memory() -> None:
    """Once this was freed, glibc's malloc keeps some tens of megabytes that are freed later for the next batch.

    It would otherwise give each batch's arrays back to the system and take them page by page, which costs as much as
    filling them. Touches no memory; 32 MB is the most that malloc learns from.
    """
    np.empty(30 << 20, np.uint8)


def _store_opener() -> Callable[[Path], Store]:
    from flanx.data import store

    def open_store(folder: Path) -> Store:
        try:
            return store.open(folder)
        except store.StoreDamaged as error:
            raise UserError(f"{error}; run 'flanx cache' again, with --verify") from error

    return open_store
