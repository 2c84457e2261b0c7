"""Text as UTF-8 bytes, as ByT5 reads it."""

from collections.abc import Iterable, Iterator, Sequence

from flanx.data.vocabulary.protocol import LONG, before_end
from flanx.data.vocabulary.spec import BYTES

_PAD_ID, _EOS_ID, _UNK_ID = 0, 1, 2
_OFFSET = 3  # padding, end-of-sequence, unknown


class ByteVocabulary:
    """Equal to `seqio.ByteVocabulary(extra_ids)`: id = UTF-8 byte + 3 (ByT5, arXiv 2105.13626)."""

    def __init__(self, spec: str = BYTES, extra_ids: int = 0):
        self.spec = spec
        self.path: str | None = None
        self.files: tuple[str, ...] = ()
        self.extra_ids = extra_ids
        self.size = _OFFSET + 256 + extra_ids
        self.eos_id = _EOS_ID
        self.bos_id: int | None = None
        self.pad_id: int | None = _PAD_ID
        self.unk_id: int | None = _UNK_ID
        self.stop_ids: tuple[int, ...] = (_EOS_ID,)
        self.adds_bos = False
        self.fingerprint = f"bytes+{extra_ids}"

    def encode(self, text: str) -> list[int]:
        return [byte + _OFFSET for byte in text.encode("utf-8")]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def parts(self, text: str) -> Iterator[str]:
        return (text[start : start + LONG] for start in range(0, len(text), LONG))

    def count(self, text: str) -> int:
        return sum(len(part.encode("utf-8")) for part in self.parts(text))

    def most_tokens(self, text: str) -> int:
        return 4 * len(text)

    def decode(self, ids: Iterable[int]) -> str:
        top = _OFFSET + 256
        kept = before_end(ids, self.stop_ids, (_PAD_ID,))
        return bytes(i - _OFFSET for i in kept if _OFFSET <= i < top).decode(
            "utf-8", errors="ignore"
        )

    def __repr__(self) -> str:
        return f"ByteVocabulary(size={self.size})"
