"""From rows of examples to the arrays a T5X model takes; no loop over tokens.

Array names and layout are those of seqio's `EncDecFeatureConverter` with `pack=True`, plus `decoder_task_ids`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FEATURES = ("inputs", "targets")

# Bytes of zeros that padding is cut from; grown where a row is longer.
_ZEROS = np.zeros(4096, np.uint16)


@dataclass(frozen=True)
class Rows:
    """Rows of examples whose tokens are not copied yet.

    Attributes:
      offsets: int64[R + 1]; row r holds examples `offsets[r]` to `offsets[r + 1]` (none: a row of padding).
      tasks: int32[E], index into the manifest's entries.
      indices: int64[E], place in the task's store.
      starts: int64[E, 2], first token in the store's flat values, inputs and targets.
      lengths: int64[E, 2], tokens.
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
      example_ids: int64[E], as in the store.
      tokens: real tokens, by feature.
      state_after: where the stream goes on after this batch, the same on every host.
    """

    arrays: dict[str, NDArray]
    rows: NDArray[np.int64]
    segments: NDArray[np.int64]
    tasks: NDArray[np.int32]
    example_ids: NDArray[np.int64]
    tokens: dict[str, int]
    state_after: LoaderState

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
        cells = {
            "inputs": self.arrays["encoder_input_tokens"].size,
            "targets": self.arrays["decoder_target_tokens"].size,
        }
        return {name: self.tokens[name] / cells[name] for name in FEATURES}


def row_and_segment(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int64[E] each: the row of every example, and its segment id in the row, from 1."""
    row = np.repeat(np.arange(len(rows)), np.diff(rows.offsets))
    return row, np.arange(rows.tasks.size) - rows.offsets[row] + 1


def assemble(
    rows: Rows,
    values: Mapping[str, Sequence[NDArray]],
    feature_lengths: Mapping[str, int],
) -> dict[str, NDArray]:
    """Copies the tokens of rows into padded arrays.

    Args:
      rows: R rows; every row must fit into the feature lengths.
      values: for "inputs" and "targets", each task's flat tokens (unsigned integers), by task index.
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
    inputs, encoder_segments, encoder_positions, _ = _spread(
        rows, 0, row, segment, values["inputs"], feature_lengths["inputs"]
    )
    targets, decoder_segments, decoder_positions, spans = _spread(
        rows, 1, row, segment, values["targets"], feature_lengths["targets"]
    )
    shifted = np.zeros_like(targets)
    # Position 0 opens a segment or is padding: nothing of the cell before it may leak in.
    np.multiply(targets[:, :-1], decoder_positions[:, 1:] > 0, out=shifted[:, 1:])
    tasks = np.zeros(spans.size, np.int32)
    tasks[np.arange(row.size) + row] = rows.tasks
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": encoder_segments,
        "encoder_positions": encoder_positions,
        "decoder_target_tokens": targets,
        "decoder_input_tokens": shifted,
        "decoder_loss_weights": (decoder_segments > 0).astype(np.float32),
        "decoder_segment_ids": decoder_segments,
        "decoder_positions": decoder_positions,
        "decoder_task_ids": np.repeat(tasks, spans).reshape(targets.shape),
    }


def _spread(
    rows: Rows,
    feature: int,
    row: NDArray[np.int64],
    segment: NDArray[np.int64],
    values: Sequence[NDArray],
    length: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Tokens, segment ids and positions [R, length] of one feature, and the lengths of its spans.

    A row is read as spans: one for each example, then one of padding. All spans laid end to end are the array itself,
    so every value of a span needs only to be repeated.
    """
    count = len(rows)
    sizes = rows.lengths[:, feature]
    ends = np.concatenate([[0], np.cumsum(sizes)])[rows.offsets]
    padding = length - np.diff(ends)
    if (padding < 0).any():
        raise ValueError(f"row {int(np.argmin(padding))} is longer than {FEATURES[feature]} allow")
    example_span = np.arange(row.size) + row
    padding_span = rows.offsets[1:] + np.arange(count)
    spans = np.empty(row.size + count, np.int64)
    spans[example_span] = sizes
    spans[padding_span] = padding

    span_segments = np.zeros(spans.size, np.int32)
    span_segments[example_span] = segment
    segments = np.repeat(span_segments, spans).reshape(count, length)
    span_starts = (np.cumsum(spans) - spans).astype(np.int32)
    positions = np.arange(count * length, dtype=np.int32)
    positions -= np.repeat(span_starts, spans)
    positions *= segments.reshape(-1) > 0

    pieces = _pieces(rows, feature, values, padding, length)
    tokens = np.empty(count * length, np.int32)
    if pieces:
        np.concatenate(pieces, out=tokens, casting="same_kind")
    return tokens.reshape(count, length), segments, positions.reshape(count, length), spans


def _pieces(
    rows: Rows, feature: int, values: Sequence[NDArray], padding: NDArray, length: int
) -> list[NDArray]:
    """Views of all spans in order: each row's examples, then zeros."""
    zeros = _ZEROS if length <= _ZEROS.size else np.zeros(length, np.uint16)
    starts = rows.starts[:, feature]
    stops = starts + rows.lengths[:, feature]
    examples = [
        values[task][start:stop]
        for task, start, stop in zip(
            rows.tasks.tolist(), starts.tolist(), stops.tolist(), strict=True
        )
    ]
    offsets = rows.offsets.tolist()
    pieces: list[NDArray] = []
    for first, last, pad in zip(offsets, offsets[1:], padding.tolist(), strict=False):
        pieces += examples[first:last]
        pieces.append(zeros[:pad])
    return pieces
