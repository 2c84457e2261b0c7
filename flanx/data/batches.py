"""From rows of examples to the arrays a T5X model takes; no loop over tokens.

Array names and layout are those of seqio's `EncDecFeatureConverter` with `pack=True`, plus `decoder_task_ids`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flanx.data.tokens import Tokens

FEATURES = ("inputs", "targets")


@dataclass(frozen=True)
class Rows:
    """Rows of examples whose tokens are not copied yet.

    Attributes:
      offsets: int64[R + 1]; row r holds examples `offsets[r]` to `offsets[r + 1]` (none: a row of padding).
      tasks: int32[E], index into the manifest's entries.
      indices: int64[E], place in the task's store.
      starts: int64[E, F], first token in the store's flat values, feature by feature.
      lengths: int64[E, F], tokens.
    """

    offsets: NDArray[np.int64]
    tasks: NDArray[np.int32]
    indices: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return self.offsets.size - 1

    def cut(self, start: int, stop: int) -> "Rows":
        """Rows `start` to `stop`, as views."""
        first, last = self.offsets[start], self.offsets[stop]
        return Rows(
            self.offsets[start : stop + 1] - first,
            self.tasks[first:last],
            self.indices[first:last],
            self.starts[first:last],
            self.lengths[first:last],
        )

    def padded(self, rows: int) -> "Rows":
        """The same with empty rows after it, `rows` in all."""
        extra = np.full(rows - len(self), self.offsets[-1])
        offsets = np.concatenate([self.offsets, extra])
        return Rows(offsets, self.tasks, self.indices, self.starts, self.lengths)


def join(parts: Sequence[Rows]) -> Rows:
    """The rows of all parts (at least one), one after the other."""
    if len(parts) == 1:
        return parts[0]
    ends = np.cumsum([part.offsets[-1] for part in parts])
    offsets = [parts[0].offsets]
    offsets += [part.offsets[1:] + end for part, end in zip(parts[1:], ends, strict=False)]
    return Rows(
        np.concatenate(offsets),
        np.concatenate([part.tasks for part in parts]),
        np.concatenate([part.indices for part in parts]),
        np.concatenate([part.starts for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )


@dataclass(frozen=True)
class LoaderState:
    """A place in the stream of rows: the next row to read. All that a loader remembers.

    Attributes:
      block: block of the stream.
      row: row inside the block.
      stream: what the place belongs to (`Loader.stream`); checked on restart where it is given.
    """

    block: int = 0
    row: int = 0
    stream: str = field(default="", compare=False)

    def to_json(self) -> dict[str, int | str]:
        return {"block": self.block, "row": self.row, "stream": self.stream}

    @classmethod
    def from_json(cls, value: Mapping[str, int | str]) -> "LoaderState":
        return cls(int(value["block"]), int(value["row"]), str(value.get("stream", "")))


@dataclass(frozen=True)
class Batch:
    """This host's rows of one global batch.

    Attributes:
      arrays: what `assemble` made.
      rows: int64[E], row of each example.
      segments: int64[E], its segment id in that row, from 1.
      tasks: int32[E], index into the manifest's entries.
      indices: int64[E], place in the task's store.
      tokens: real tokens, by feature.
      state_after: where the stream goes on after this batch, the same on every host.
      ids_of: looks up the example ids of (tasks, indices).
    """

    arrays: dict[str, NDArray]
    rows: NDArray[np.int64]
    segments: NDArray[np.int64]
    tasks: NDArray[np.int32]
    indices: NDArray[np.int64]
    tokens: dict[str, int]
    state_after: LoaderState
    ids_of: Callable[[NDArray[np.int32], NDArray[np.int64]], NDArray[np.int64]] = field(repr=False)

    @functools.cached_property
    def example_ids(self) -> NDArray[np.int64]:
        """int64[E]: the examples' ids, as in their stores; read when first asked for."""
        return self.ids_of(self.tasks, self.indices)

    @property
    def num_examples(self) -> int:
        return self.tasks.size

    @property
    def examples(self) -> list[tuple[int, int, int, int]]:
        """(row, segment, task index, example id) of each example."""
        columns = (self.rows, self.segments, self.tasks, self.example_ids)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @property
    def fill(self) -> dict[str, float]:
        """Share of the cells that hold tokens, by feature."""
        targets = self.arrays["decoder_target_tokens"]
        cells = {
            "inputs": self.arrays.get("encoder_input_tokens", targets).size,
            "targets": targets.size,
        }
        return {name: self.tokens[name] / cells[name] for name in FEATURES}


def row_and_segment(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[E] each: the row of every example, and its segment id in the row, from 1."""
    row = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    return row, np.arange(rows.tasks.size) - rows.offsets[row] + 1


def assemble(
    rows: Rows, tokens: Mapping[str, Tokens], feature_lengths: Mapping[str, int]
) -> dict[str, NDArray]:
    """Copies the tokens of rows into padded arrays.

    Args:
      rows: R rows of the features "inputs" and "targets"; every row must fit into the feature lengths.
      tokens: for "inputs" and "targets", what `rows.starts` counts in.
      feature_lengths: {"inputs": Li, "targets": Lt}.

    Returns:
      Fresh arrays, int32 unless said otherwise, 0 where there is padding: encoder_input_tokens, encoder_segment_ids,
      encoder_positions [R, Li]; decoder_target_tokens, decoder_input_tokens (targets shifted right inside each segment,
      0 at its start), decoder_segment_ids, decoder_positions, decoder_task_ids [R, Lt]; decoder_loss_weights float32
      [R, Lt], 1 at every real target. Segments count from 1, positions from 0.

    Raises:
      ValueError: a row is longer than its feature.
    """
    row, segment = row_and_segment(rows)
    sides = [
        _Side.of(rows, row, segment, place, feature_lengths[name])
        for place, name in enumerate(FEATURES)
    ]
    encoder, decoder = sides
    inputs, targets = (
        side.gather(rows, tokens[name]) for side, name in zip(sides, FEATURES, strict=True)
    )
    encoder_segments, segments = encoder.segments(), decoder.segments()
    positions = decoder.positions()
    shifted = np.zeros_like(targets)
    # Position 0 opens a segment or is padding: nothing of the cell before it may leak in.
    np.multiply(targets[:, :-1], positions[:, 1:] > 0, out=shifted[:, 1:])
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": encoder_segments,
        "encoder_positions": encoder.positions(),
        "decoder_target_tokens": targets,
        "decoder_input_tokens": shifted,
        "decoder_loss_weights": (segments > 0).astype(np.float32),
        "decoder_segment_ids": segments,
        "decoder_positions": positions,
        "decoder_task_ids": decoder.spread(rows.tasks),
    }


@dataclass(frozen=True)
class _Side:
    """One feature's cells, read as spans: for each row one span an example, then one of padding.

    All spans laid end to end are the array itself, so whatever is constant in a span needs only to be repeated.

    Attributes:
      feature: place among FEATURES.
      shape: (R, length).
      spans: int64[E + R], cells of each span.
      example_spans: int64[E], which of the spans are examples.
      numbers: int64[E], the examples' segment ids.
      used: cells of each row that hold tokens.
    """

    feature: int
    shape: tuple[int, int]
    spans: NDArray[np.int64]
    example_spans: NDArray[np.int64]
    numbers: NDArray[np.int64]
    used: list[int]

    @classmethod
    def of(
        cls,
        rows: Rows,
        row: NDArray[np.int64],
        segment: NDArray[np.int64],
        feature: int,
        length: int,
    ) -> "_Side":
        count = len(rows)
        sizes = rows.lengths[:, feature]
        ends = np.concatenate([[0], np.cumsum(sizes)])[rows.offsets]
        used = np.diff(ends)
        padding = length - used
        if (padding < 0).any():
            raise ValueError(f"row {np.argmin(padding)} is longer than {FEATURES[feature]} allow")
        example_spans = np.arange(row.size) + row
        spans = np.empty(row.size + count, np.int64)
        spans[example_spans] = sizes
        spans[rows.offsets[1:] + np.arange(count)] = padding
        return cls(feature, (count, length), spans, example_spans, segment, used.tolist())

    def spread(self, values: NDArray) -> NDArray[np.int32]:
        """[R, length]: every example's value in all of its cells, 0 in padding."""
        of_span = np.zeros(self.spans.size, np.int32)
        of_span[self.example_spans] = values
        return np.repeat(of_span, self.spans).reshape(self.shape)

    def segments(self) -> NDArray[np.int32]:
        return self.spread(self.numbers)

    def positions(self) -> NDArray[np.int32]:
        starts = (np.cumsum(self.spans) - self.spans).astype(np.int32)
        positions = np.repeat(starts, self.spans)
        np.subtract(np.arange(positions.size, dtype=np.int32), positions, out=positions)
        positions = positions.reshape(self.shape)
        for row, used in enumerate(self.used):
            positions[row, used:] = 0
        return positions

    def gather(self, rows: Rows, tokens: Tokens) -> NDArray[np.int32]:
        """[R, length]: the tokens, 0 in padding.

        Joining slices of bytes costs less for an example than any of numpy's ways.
        """
        width = tokens.dtype.itemsize
        starts = tokens.bases[rows.tasks] + rows.starts[:, self.feature] * width
        stops = starts + rows.lengths[:, self.feature] * width
        memory = tokens.memory
        examples = [
            memory[start:stop] for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        ]
        length = self.shape[1]
        zeros = memoryview(bytes(length * width))
        offsets = rows.offsets.tolist()
        pieces: list[memoryview] = []
        for first, last, used in zip(offsets, offsets[1:], self.used, strict=False):
            pieces += examples[first:last]
            pieces.append(zeros[used * width :])
        cells = np.frombuffer(b"".join(pieces), tokens.dtype)
        return cells.astype(np.int32).reshape(self.shape)
