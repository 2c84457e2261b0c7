"""The vocabulary of flanx's tasks in SeqIO's registry: found when a task is read, not when it is registered."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import seqio
import tensorflow as tf

from flanx import resources
from flanx.errors import UserError


class LateVocabulary(seqio.Vocabulary):
    """A vocabulary found when it is first used: the spec's, else the environment's FLANX_VOCABULARY.

    Raises:
      UserError: on first use, where there is neither or the file is missing.
    """

    def __init__(self, spec: str | None) -> None:
        super().__init__()
        self._spec = spec

    @property
    def spec(self) -> str | None:
        return self._spec or os.environ.get("FLANX_VOCABULARY") or None

    def load(self) -> seqio.Vocabulary:
        """The vocabulary itself."""
        spec = self.spec
        if spec is None:
            raise UserError(
                "no vocabulary to read this task with: set FLANX_VOCABULARY to a SentencePiece model "
                "(or 'bytes'), or register the task with vocabulary='...'"
            )
        return _load_vocabulary(spec)

    @property
    def bos_id(self) -> int | None:
        return None

    @property
    def eos_id(self) -> int | None:
        return self.load().eos_id

    @property
    def unk_id(self) -> int | None:
        return self.load().unk_id

    @property
    def extra_ids(self) -> int:
        return self.load().extra_ids

    @property
    def _base_vocab_size(self) -> int:
        return self.load()._base_vocab_size

    def encode(self, s: Any) -> Sequence[int]:
        return self.load().encode(s)

    def decode(self, ids: Any) -> str:
        return self.load().decode(ids)

    def encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        return self.load().encode_tf(s)

    def decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return self.load().decode_tf(ids)

    def _encode(self, s: str) -> Sequence[int]:
        return self.load()._encode(s)

    def _decode(self, ids: Any) -> str:
        return self.load()._decode(ids)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        return self.load()._encode_tf(s)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        return self.load()._decode_tf(ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LateVocabulary) and self.spec == other.spec

    def __hash__(self) -> int:
        return hash(LateVocabulary)

    def __str__(self) -> str:
        return f"LateVocabulary({self.spec})"

    __repr__ = __str__


@functools.lru_cache(maxsize=8)
def _load_vocabulary(spec: str) -> seqio.Vocabulary:
    from flanx.data.vocabulary import parse_spec

    name, extra_ids = parse_spec(spec)
    if name == "bytes":
        return seqio.ByteVocabulary(extra_ids=extra_ids)
    return seqio.SentencePieceVocabulary(resources.resolve(name), extra_ids=extra_ids)
