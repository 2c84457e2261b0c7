"""What flanx asks of a vocabulary, whichever library reads it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

LONG = 1 << 20  # characters that are tokenised at once; a longer text may be tokenised in parts


class Vocabulary(Protocol):
    """Text to token ids and back.

    An id means nothing by itself: 0 is padding in T5's vocabularies and a token like any other in Llama's. Arrays are
    filled up with 0 whatever the vocabulary; how long a row is says its mask or its lengths, never its ids.

    Attributes:
      spec: names it completely: `load` of it gives the same vocabulary, whatever lies beside the file.
      path: the model file on this machine; None where there is none.
      files: every file that was read, that one first.
      size: number of ids, sentinels and added tokens included: the largest id plus one.
      eos_id: end of sequence, which the token store appends.
      bos_id: begin of sequence; None where there is none. The store never prepends it.
      pad_id: padding; None where there is none.
      unk_id: what stands for unknown pieces; None where there is none.
      stop_ids: ids that end an answer, `eos_id` first.
      adds_bos: whether the model was trained with `bos_id` before every text, as far as its tokenizer's files say.
      extra_ids: number of sentinels, the last ids of the vocabulary.
      fingerprint: equal for two vocabularies exactly when they give the same ids to every text. What stands before its
        last `+` is the same for two that differ in their number of sentinels alone.
    """

    spec: str
    path: str | None
    files: tuple[str, ...]
    size: int
    eos_id: int
    bos_id: int | None
    pad_id: int | None
    unk_id: int | None
    stop_ids: tuple[int, ...]
    adds_bos: bool
    extra_ids: int
    fingerprint: str

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without begin and end of sequence."""
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, in one call to the tokeniser."""
        ...

    def parts(self, text: str) -> Iterator[str]:
        """The text in parts of about `LONG` characters whose ids, one after the other, are those of the text.

        Where no place to cut is met for so long a part is longer, or the cut may change ids near it.
        """
        ...

    def count(self, text: str) -> int:
        """How many ids `encode` gives, without keeping those of a long text."""
        ...

    def most_tokens(self, text: str) -> int:
        """No fewer than `encode` gives, told without tokenising; very many where that cannot be told."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text up to the first of `stop_ids`; begin of sequence and padding are dropped."""
        ...


def before_end(
    ids: Iterable[int], stop_ids: Sequence[int], dropped: Sequence[int | None]
) -> list[int]:
    """The ids that stand before the first of `stop_ids`, without those that are `dropped`."""
    kept = []
    for i in ids:
        if i in stop_ids:
            break
        if i not in dropped:
            kept.append(int(i))
    return kept
