"""SentencePiece models, with exactly the ids that SeqIO gives and without TensorFlow."""

import functools
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flanx.data.vocabulary.model_files import model_of
from flanx.data.vocabulary.protocol import LONG, before_end
from flanx.data.vocabulary.spec import DEFAULT_EXTRA_IDS
from flanx.errors import UserError

_T5_IDS = (
    0,
    1,
)  # padding and end-of-sequence, where a spec that names no number of sentinels has T5's
# White space after which a word begins: nothing that would join what stands before it (an accent, say).
_CUT = re.compile(r"(?<=[^\W_])[ \n](?=[^\W_])")
_CUT_AT_SPACE = re.compile(r"(?<=[^\W_]) (?=[^\W_])")


class SentencePieceVocabulary:
    """Equal to `seqio.SentencePieceVocabulary(path, extra_ids)`: sentinels are pieces of the model itself.

    SeqIO appends `▁<extra_id_{n-1}>` ... `▁<extra_id_0>` to the model as user-defined pieces, so that
    `<extra_id_0>` in a text becomes the vocabulary's last id.
    """

    def __init__(self, spec: str, path: str, extra_ids: int | None):
        """Reads a model.

        Args:
          spec: what it is called.
          path: where it lies.
          extra_ids: number of sentinels; None for T5's 100 where padding is 0 and end-of-sequence 1, else none.

        Raises:
          UserError: not a SentencePiece model, or one without end-of-sequence.
        """
        content = model_of(spec, path)
        asked = DEFAULT_EXTRA_IDS if extra_ids is None else extra_ids
        processor = _processor(spec, path, content, asked)
        special = (processor.pad_id(), processor.eos_id())
        if extra_ids is None and special != _T5_IDS:
            asked = 0
            processor = _processor(spec, path, content, asked)
            spec = f"{spec}?extra_ids=0"
        if processor.eos_id() < 0:
            raise UserError(
                f"vocabulary '{spec}': {path} has no end-of-sequence token; train the model with an eos_id"
            )
        self._processor = processor
        # Whether no normalisation rule of the model makes more than one character of one of these.
        self._plain_ascii = all(
            len(processor.Normalize(chr(i)).lstrip("▁")) <= 1 for i in range(128)
        )
        self.spec = spec
        self.path: str | None = path
        self.files: tuple[str, ...] = (path,)
        self.extra_ids = asked
        self.size = processor.GetPieceSize()
        self._sentinels_from = self.size - asked
        self.eos_id = processor.eos_id()
        self.bos_id: int | None = _known(processor.bos_id())
        self.pad_id: int | None = _known(processor.pad_id())
        self.unk_id: int | None = processor.unk_id()
        self.stop_ids: tuple[int, ...] = (self.eos_id,)
        self.adds_bos = False  # the file does not say
        self.fingerprint = f"{hashlib.sha256(content).hexdigest()}+{asked}"

    def encode(self, text: str) -> list[int]:
        return self._processor.EncodeAsIds(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.Encode(list(texts), out_type=int, num_threads=1)

    def parts(self, text: str) -> Iterator[str]:
        if len(text) <= LONG or self._cut is None:
            yield text
            return
        start = 0
        while start < len(text):
            space = self._cut.search(text, start + LONG, start + 2 * LONG)
            end = min(start + 2 * LONG, len(text)) if space is None else space.start()
            yield text[start:end]
            start = end if space is None else space.end()

    def count(self, text: str) -> int:
        return sum(len(self.encode(part)) for part in self.parts(text))

    @functools.cached_property
    def _cut(self) -> re.Pattern[str] | None:
        """Where a text's ids are those of what stands before and after: no piece goes on over a space into a word."""
        pieces = (self._processor.IdToPiece(i) for i in range(self._sentinels_from))
        apart = [*self.encode("a"), *self.encode("b")]
        if any("▁" in piece.lstrip("▁") for piece in pieces) or self.encode("a b") != apart:
            return None
        return _CUT if self.encode("a\nb") == apart else _CUT_AT_SPACE

    def most_tokens(self, text: str) -> int:
        # A piece covers a character at least, and one is put before the text.
        return len(text) + 1 if self._plain_ascii and text.isascii() else sys.maxsize

    def decode(self, ids: Iterable[int]) -> str:
        kept = before_end(ids, self.stop_ids, (self.pad_id,))
        # Begin-of-sequence is a control piece, which decodes to nothing.
        return self._processor.DecodeIds([i if 0 <= i < self.size else self.unk_id for i in kept])

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceVocabulary, (self.spec, self.path, self.extra_ids)

    def __repr__(self) -> str:
        return f"SentencePieceVocabulary({self.spec!r}, size={self.size})"


def _processor(spec: str, path: str, content: bytes, extra_ids: int) -> Any:
    """The model with its sentinels, read by SentencePiece.

    Raises:
      UserError: it is none.
    """
    import sentencepiece

    sentinels = b"".join(_user_piece(f"▁<extra_id_{i}>") for i in reversed(range(extra_ids)))
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(content + sentinels)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"vocabulary '{spec}': {path} is not a SentencePiece model, or a damaged one ({reason})"
        ) from error
    return processor


def _known(special_id: int) -> int | None:
    """SentencePiece says -1 where a model has no such piece."""
    return special_id if special_id >= 0 else None


def _user_piece(piece: str) -> bytes:
    """A user-defined piece, score 0, as `ModelProto.pieces` holds it in protocol buffer wire format.

    Messages that are written one after the other merge, and repeated fields append: this saves the generated
    protobuf code, whose version has to match the protobuf runtime that TensorFlow pins.
    """
    text = piece.encode()
    assert len(text) < 100  # one-byte lengths below
    message = bytes([0x0A, len(text)]) + text + b"\x15\0\0\0\0" + b"\x18\x04"
    return bytes([0x0A, len(message)]) + message
