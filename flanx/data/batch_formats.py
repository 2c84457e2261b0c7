"""What a batch looks like, as SeqIO's feature converters say it: which columns of the store, and what becomes of them.

Mixing and packing know sizes alone. A format says what an example takes of a row, and makes the arrays; a model family
names the format of its own (`ModelConfig.batch_format`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from flanx.data.batches import FEATURES, Rows, assemble, row_and_segment
from flanx.data.tokens import Tokens

Shapes = dict[str, tuple[tuple[int, ...], str]]  # shape and dtype of each array


@dataclass(frozen=True)
class RowSettings:
    """What a run may say of a decoder's rows; the defaults are the only ones of an encoder-decoder.

    Attributes:
      length: positions of a row; None for the sum of the feature lengths.
      loss_on: "targets", or "all" for inputs too.
      prefix: whether inputs are seen both ways (prefix language model), and not causally.
    """

    length: int | None = None
    loss_on: Literal["targets", "all"] = "targets"
    prefix: bool = False


class BatchFormat(Protocol):
    """Columns, sizes and arrays of a family's batches."""

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that it wants of the store."""
        ...

    @property
    def capacity(self) -> tuple[int, ...]:
        """Cells of a row, in each of its parts."""
        ...

    @property
    def identity(self) -> tuple[Any, ...]:
        """What of it decides which examples share a row, beside the capacity."""
        ...

    def sizes(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Cells that examples of these lengths, int64[N, F], take of each part of a row: int64[N, K]."""
        ...

    def arrays(
        self, rows: Rows, tokens: Mapping[str, Tokens], widths: Mapping[str, int]
    ) -> dict[str, NDArray]:
        """Fresh padded arrays of rows; `widths` as `Loader` has them."""
        ...

    def shapes(self, rows: int) -> Shapes:
        """Of a training batch of so many rows."""
        ...


@dataclass(frozen=True)
class EncoderDecoder:
    """Inputs and targets in arrays of their own (seqio: `EncDecFeatureConverter`); `batches.assemble` has their names.

    Attributes:
      inputs: positions of the encoder.
      targets: positions of the decoder.
    """

    inputs: int
    targets: int

    @property
    def features(self) -> tuple[str, ...]:
        return FEATURES

    @property
    def capacity(self) -> tuple[int, ...]:
        return self.inputs, self.targets

    @property
    def identity(self) -> tuple[Any, ...]:
        return ()

    def sizes(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        return lengths

    def arrays(
        self, rows: Rows, tokens: Mapping[str, Tokens], widths: Mapping[str, int]
    ) -> dict[str, NDArray]:
        return assemble(rows, tokens, widths)

    def shapes(self, rows: int) -> Shapes:
        encoder = ("encoder_input_tokens", "encoder_segment_ids", "encoder_positions")
        decoder = (
            "decoder_target_tokens",
            "decoder_input_tokens",
            "decoder_segment_ids",
            "decoder_positions",
            "decoder_task_ids",
        )
        return {
            **dict.fromkeys(encoder, ((rows, self.inputs), "int32")),
            **dict.fromkeys(decoder, ((rows, self.targets), "int32")),
            "decoder_loss_weights": ((rows, self.targets), "float32"),
        }


@dataclass(frozen=True)
class Decoder:
    """Inputs and targets one after the other in one row (seqio: `PrefixLMFeatureConverter`).

    An example is the text [BOS] inputs targets EOS: the end-of-sequence that the store has after inputs is left out,
    and BOS is there where the vocabulary asks for it. Each cell has a token and, as its target, the next one.

    Attributes:
      length: positions of a row.
      bos_id: what an example begins with; None for its first token.
      loss_on: which targets count, those of "targets" or "all".
      prefix: whether inputs are seen both ways; causally otherwise.
    """

    length: int
    bos_id: int | None = None
    loss_on: Literal["targets", "all"] = "targets"
    prefix: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        return FEATURES

    @property
    def capacity(self) -> tuple[int, ...]:
        return (self.length,)

    @property
    def identity(self) -> tuple[Any, ...]:
        return ("decoder", self.bos_id is not None)

    def sizes(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        before, answer = self._parts(lengths)
        return np.maximum(before + answer - 1, 1)[:, None]

    def arrays(
        self, rows: Rows, tokens: Mapping[str, Tokens], widths: Mapping[str, int]
    ) -> dict[str, NDArray]:
        """int32 [R, length] unless said otherwise, 0 where there is padding.

        decoder_input_tokens, decoder_target_tokens; decoder_segment_ids from 1; decoder_positions from 0 in each
        example; decoder_task_ids; decoder_loss_weights float32; with `prefix` decoder_causal_attention, 1 where
        positions see each other both ways: all that stand before the first target.

        Raises:
          ValueError: a row is longer than `length`.
        """
        row, segment = row_and_segment(rows)
        before, answer = self._parts(rows.lengths)
        # A lone token without BOS has no target: its cell counts for nothing.
        cells = np.maximum(before + answer - 1, 1)
        ends = np.concatenate([[0], np.cumsum(cells)])
        used = np.diff(ends[rows.offsets])
        if (used > self.length).any():
            raise ValueError(f"row {np.argmax(used)} is longer than {self.length}")
        text, starts = self._texts(rows, tokens, before + answer)
        column = ends[:-1] - ends[rows.offsets][row]
        example = np.repeat(np.arange(row.size), cells)
        place = np.arange(example.size) - ends[:-1][example]
        to = (row * self.length + column)[example] + place
        source = starts[example] + place

        def spread(values: NDArray, dtype: Any = np.int32) -> NDArray:
            out = np.zeros(len(rows) * self.length, dtype)
            out[to] = values
            return out.reshape(len(rows), self.length)

        counts = np.ones(example.size, bool)
        if self.loss_on == "targets":
            counts = place + 1 >= before[example]
        counts &= place + 1 < (before + answer)[example]
        arrays = {
            "decoder_input_tokens": spread(text[source]),
            "decoder_target_tokens": spread(text[source + 1]),
            "decoder_segment_ids": spread(segment[example]),
            "decoder_positions": spread(place),
            "decoder_task_ids": spread(rows.tasks[example]),
            "decoder_loss_weights": spread(counts, np.float32),
        }
        if self.prefix:
            arrays["decoder_causal_attention"] = spread(place < before[example])
        return arrays

    def shapes(self, rows: int) -> Shapes:
        whole = (
            "decoder_input_tokens",
            "decoder_target_tokens",
            "decoder_segment_ids",
            "decoder_positions",
            "decoder_task_ids",
            *(("decoder_causal_attention",) if self.prefix else ()),
        )
        shape = (rows, self.length)
        return {
            **dict.fromkeys(whole, (shape, "int32")),
            "decoder_loss_weights": (shape, "float32"),
        }

    def _parts(self, lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens before the first target, BOS among them, and of the targets: int64[N] each."""
        inputs, targets = lengths.T
        return np.maximum(inputs - 1, 0) + (self.bos_id is not None), targets

    def _texts(
        self, rows: Rows, tokens: Mapping[str, Tokens], sizes: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """All examples' tokens one after the other, one cell more at the end, and where each begins."""
        inputs, targets = (tokens[name] for name in FEATURES)
        begin = b"" if self.bos_id is None else np.array([self.bos_id], inputs.dtype).tobytes()
        columns = []
        for feature, of in enumerate((inputs, targets)):
            width = of.dtype.itemsize
            first = of.bases[rows.tasks] + rows.starts[:, feature] * width
            count = rows.lengths[:, feature] - (1 - feature)  # inputs without their end-of-sequence
            columns += [first.tolist(), (first + np.maximum(count, 0) * width).tolist()]
        pieces: list[Any] = []
        for asked, asked_end, answered, answered_end in zip(*columns, strict=True):
            pieces += (begin, inputs.memory[asked:asked_end], targets.memory[answered:answered_end])
        flat = np.frombuffer(b"".join(pieces), inputs.dtype).astype(np.int32)
        return np.append(flat, np.int32(0)), np.cumsum(sizes) - sizes
