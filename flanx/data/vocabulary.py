"""Text to token ids and back without TensorFlow, with exactly the ids that SeqIO gives.

A vocabulary is named by a spec: the path of a SentencePiece model, `path?extra_ids=0` to change the number of
sentinels (100 unless said), or `bytes` for UTF-8 bytes as ByT5 reads them. Every vocabulary has padding at id 0
and end-of-sequence at id 1, as packing and the model expect.
"""

import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from flanx import resources
from flanx.errors import UserError

DEFAULT_EXTRA_IDS = 100
_MOST_EXTRA_IDS = 1_000_000  # each becomes a piece of the model in memory
PAD_ID = 0
EOS_ID = 1
BYTES = "bytes"
LONG = 1 << 20  # characters that are tokenised at once; a longer text may be tokenised in parts
# White space after which a word begins: nothing that would join what stands before it (an accent, say).
_CUT = re.compile(r"(?<=[^\W_])[ \n](?=[^\W_])")
_BYTES_OFFSET = 3  # padding, end-of-sequence, unknown


class Vocabulary(Protocol):
    """What flanx asks of a vocabulary.

    Attributes:
      spec: the spec it was loaded from.
      path: the model file on this machine; None where there is none.
      size: number of ids, sentinels included.
      pad_id, eos_id, unk_id: special ids; 0, 1 and usually 2.
      extra_ids: number of sentinels, the last ids of the vocabulary.
      fingerprint: equal for two vocabularies exactly when they give the same ids to every text.
    """

    spec: str
    path: str | None
    size: int
    pad_id: int
    eos_id: int
    unk_id: int
    extra_ids: int
    fingerprint: str

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without end-of-sequence."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in one call to the tokeniser."""
        ...

    def parts(self, text: str) -> Iterator[str]:
        """The text in parts of about `LONG` characters whose ids, one after the other, are those of the text.

        Where SentencePiece meets no white space for so long the cut may change ids near it.
        """
        ...

    def count(self, text: str) -> int:
        """How many ids `encode` gives, without keeping those of a long text."""
        ...

    def most_tokens(self, text: str) -> int:
        """No fewer than `encode` gives, told without tokenising; very many where that cannot be told."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the first end-of-sequence; padding is dropped, ids out of range are unknown."""
        ...


def load(spec: str, data_dir: str | None = None) -> Vocabulary:
    """The vocabulary that `spec` names; loaded once a process and file version.

    Args:
      spec: a SentencePiece model (`spiece.model`, `pkg://flanx.tasks/x.model`, `x.model?extra_ids=0`) or `bytes`.
      data_dir: where a relative path is looked up besides the working directory.

    Raises:
      UserError: no such file, not a SentencePiece model, a malformed `extra_ids`, or padding and
        end-of-sequence at other ids than 0 and 1.
    """
    name, extra_ids = parse_spec(spec)
    if name == BYTES:
        return ByteVocabulary(spec, extra_ids)
    path = resources.resolve(name, data_dir)
    version = os.stat(path).st_mtime_ns if "://" not in path else 0
    return _load_sentencepiece(spec, path, extra_ids, version)


def parse_spec(spec: str) -> tuple[str, int]:
    """Splits `name?extra_ids=n` into the name and n."""
    name, question, query = spec.partition("?")
    if not question:
        return name, 0 if name == BYTES else DEFAULT_EXTRA_IDS
    key, _, value = query.partition("=")
    if key != "extra_ids" or not value.isdecimal():
        raise UserError(
            f"vocabulary '{spec}': '?{query}' is not understood; write '{name}?extra_ids=100', say"
        )
    if len(value) > 7 or int(value) > _MOST_EXTRA_IDS:
        raise UserError(f"vocabulary '{spec[:200]}': extra_ids is beyond {_MOST_EXTRA_IDS:,}")
    return name, int(value)


def includes(vocabulary: Vocabulary, other: Vocabulary) -> bool:
    """Whether ids made with `other` mean the same in `vocabulary`.

    True for equal vocabularies, and where they differ only in that `other` has no sentinels.
    """
    if vocabulary.fingerprint == other.fingerprint:
        return True
    return other.extra_ids == 0 and _model_part(vocabulary) == _model_part(other)


def _model_part(vocabulary: Vocabulary) -> str:
    return vocabulary.fingerprint.rpartition("+")[0]


@functools.lru_cache(maxsize=16)
def _load_sentencepiece(
    spec: str, path: str, extra_ids: int, version: int
) -> "SentencePieceVocabulary":
    del version  # a changed file is another vocabulary
    return SentencePieceVocabulary(spec, path, extra_ids)


class SentencePieceVocabulary:
    """Equal to `seqio.SentencePieceVocabulary(path, extra_ids)`: sentinels are pieces of the model itself.

    SeqIO appends `▁<extra_id_{n-1}>` ... `▁<extra_id_0>` to the model as user-defined pieces, so that
    `<extra_id_0>` in a text becomes the vocabulary's last id.
    """

    def __init__(self, spec: str, path: str, extra_ids: int):
        import sentencepiece

        content = _read(path)
        sentinels = b"".join(_user_piece(f"▁<extra_id_{i}>") for i in reversed(range(extra_ids)))
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(content + sentinels)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"vocabulary '{spec}': {path} is not a SentencePiece model, or a damaged one ({reason})"
            ) from error
        if (processor.pad_id(), processor.eos_id()) != (PAD_ID, EOS_ID):
            raise UserError(
                f"vocabulary '{spec}': padding is id {processor.pad_id()} and end-of-sequence id "
                f"{processor.eos_id()}, but flanx needs 0 and 1; train the model with "
                "pad_id=0, eos_id=1, unk_id=2"
            )
        self._processor = processor
        # Whether no normalisation rule of the model makes more than one character of one of these.
        self._plain_ascii = all(
            len(processor.Normalize(chr(i)).lstrip("▁")) <= 1 for i in range(128)
        )
        self.spec = spec
        self.path: str | None = path
        self.extra_ids = extra_ids
        self.size = processor.GetPieceSize()
        self._sentinels_from = self.size - extra_ids
        self.pad_id = PAD_ID
        self.eos_id = EOS_ID
        self.unk_id = processor.unk_id()
        self.fingerprint = f"{hashlib.sha256(content).hexdigest()}+{extra_ids}"

    def encode(self, text: str) -> list[int]:
        return self._processor.EncodeAsIds(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._processor.Encode(list(texts), out_type=int, num_threads=1)

    def parts(self, text: str) -> Iterator[str]:
        if len(text) <= LONG or not self._parts_at_space:
            yield text
            return
        start = 0
        while start < len(text):
            space = _CUT.search(text, start + LONG, start + 2 * LONG)
            end = min(start + 2 * LONG, len(text)) if space is None else space.start()
            yield text[start:end]
            start = end if space is None else space.end()

    def count(self, text: str) -> int:
        return sum(len(self.encode(part)) for part in self.parts(text))

    @functools.cached_property
    def _parts_at_space(self) -> bool:
        """Whether a text's ids are those of its words: no piece goes on over a space, and spaces are alike."""
        across = any("▁" in self._processor.IdToPiece(i)[1:] for i in range(self._sentinels_from))
        alike = self.encode("a b") == self.encode("a\nb") == [*self.encode("a"), *self.encode("b")]
        return not across and alike

    def most_tokens(self, text: str) -> int:
        # A piece covers a character at least, and one is put before the text.
        return len(text) + 1 if self._plain_ascii and text.isascii() else sys.maxsize

    def decode(self, ids: Iterable[int]) -> str:
        inside = [i if 0 <= i < self.size else self.unk_id for i in _before_end(ids)]
        return self._processor.DecodeIds(inside)

    def __reduce__(self) -> tuple[Any, ...]:
        return SentencePieceVocabulary, (self.spec, self.path, self.extra_ids)

    def __repr__(self) -> str:
        return f"SentencePieceVocabulary({self.spec!r}, size={self.size})"


class ByteVocabulary:
    """Equal to `seqio.ByteVocabulary(extra_ids)`: id = UTF-8 byte + 3 (ByT5, arXiv 2105.13626)."""

    def __init__(self, spec: str = BYTES, extra_ids: int = 0):
        self.spec = spec
        self.path: str | None = None
        self.extra_ids = extra_ids
        self.size = _BYTES_OFFSET + 256 + extra_ids
        self.pad_id = PAD_ID
        self.eos_id = EOS_ID
        self.unk_id = 2
        self.fingerprint = f"bytes+{extra_ids}"

    def encode(self, text: str) -> list[int]:
        return [byte + _BYTES_OFFSET for byte in text.encode("utf-8")]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def parts(self, text: str) -> Iterator[str]:
        return (text[start : start + LONG] for start in range(0, len(text), LONG))

    def count(self, text: str) -> int:
        return sum(len(part.encode("utf-8")) for part in self.parts(text))

    def most_tokens(self, text: str) -> int:
        return 4 * len(text)

    def decode(self, ids: Iterable[int]) -> str:
        top = _BYTES_OFFSET + 256
        inside = bytes(i - _BYTES_OFFSET for i in _before_end(ids) if _BYTES_OFFSET <= i < top)
        return inside.decode("utf-8", errors="ignore")

    def __repr__(self) -> str:
        return f"ByteVocabulary(size={self.size})"


def _user_piece(piece: str) -> bytes:
    """A user-defined piece, score 0, as `ModelProto.pieces` holds it in protocol buffer wire format.

    Messages that are written one after the other merge, and repeated fields append: this saves the generated
    protobuf code, whose version has to match the protobuf runtime that TensorFlow pins.
    """
    text = piece.encode()
    assert len(text) < 100  # one-byte lengths below
    message = bytes([0x0A, len(text)]) + text + b"\x15\0\0\0\0" + b"\x18\x04"
    return bytes([0x0A, len(message)]) + message


def _before_end(ids: Iterable[int]) -> list[int]:
    kept = []
    for i in ids:
        if i == EOS_ID:
            break
        if i != PAD_ID:
            kept.append(int(i))
    return kept


def _read(path: str) -> bytes:
    if "://" in path:
        from etils import epath

        return epath.Path(path).read_bytes()
    return Path(path).read_bytes()
