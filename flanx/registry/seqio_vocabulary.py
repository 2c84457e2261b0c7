"""The vocabulary of flanx's tasks in SeqIO's registry: found when a task is read, not when it is registered."""

import functools
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from flanx import resources
from flanx.data import vocabulary
from flanx.data.vocabulary import BYTES, parse_spec
from flanx.errors import UserError
from flanx.registry.seqio_huggingface import HuggingFaceVocabulary

_FILE = "_sentencepiece_model_file"


def _passes_for(late: "LateVocabulary") -> type[seqio.Vocabulary]:
    """What isinstance() looks at besides the type; nothing is loaded for it."""
    return LateVocabulary if late.spec is None else _seqio_class(late.spec)


class LateVocabulary(seqio.Vocabulary):
    """A vocabulary found when it is first used: the spec's, else the environment's FLANX_VOCABULARY.

    It passes for SeqIO's own vocabulary of the same file: T5X compares a task's vocabulary with its model's, and
    SeqIO's `__eq__` asks for an instance of its class and for its state. Attributes that are not here are those of the
    vocabulary itself. Where the spec names no number of sentinels, it equals SeqIO's with T5's 100 and SeqIO's with
    none, which T5X's own gin files take: the two differ for texts that hold `<extra_id_0>` and its like alone.

    Raises:
      UserError: on first use, where there is neither or the file is missing.
    """

    def __init__(self, spec: str | None) -> None:
        super().__init__()
        self._spec = spec

    __class__ = property(_passes_for)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_spec":  # what copying and inspecting ask for
            raise AttributeError(f"LateVocabulary has no attribute '{name}'")
        return getattr(self.load(), name)

    @property
    def spec(self) -> str | None:
        return self._spec or os.environ.get("FLANX_VOCABULARY") or None

    def load(self) -> seqio.Vocabulary:
        """The vocabulary itself."""
        spec = self.spec
        if spec is None:
            raise UserError(
                "no vocabulary to read this task with: set FLANX_VOCABULARY to a SentencePiece model, a Hugging Face "
                "tokenizer.json or 'bytes', or register the task with vocabulary='...'"
            )
        return _load_vocabulary(spec)

    @property
    def bos_id(self) -> int | None:
        bos_id = self.load().bos_id
        return None if bos_id is None or bos_id < 0 else bos_id  # SentencePiece's -1 for none

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
    def vocab_size(self) -> int:
        return self.load().vocab_size

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
        if type(other) is LateVocabulary and self.spec == other.spec:
            return True
        if self.spec is None or not isinstance(other, self.__class__):
            return False
        if not isinstance(other, seqio.SentencePieceVocabulary):
            return self.load() == (other.load() if type(other) is LateVocabulary else other)
        if type(other) is LateVocabulary:
            return _same(self.load().__getstate__(), other.load().__getstate__())
        return self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        if self.spec is not None and _seqio_class(self.spec) is HuggingFaceVocabulary:
            return hash(self.load())
        # The same for all others: equal ones may have different specs, and SeqIO's own have no hash at all.
        return hash(LateVocabulary)

    def __getstate__(self) -> dict[str, Any]:
        """What `seqio.SentencePieceVocabulary.__eq__` compares, which asks instances of its class alone."""
        pieces = _seqio_class(self.spec or BYTES) is seqio.SentencePieceVocabulary
        return _State(self) if pieces else {}

    def __reduce__(self) -> tuple[Any, ...]:
        return LateVocabulary, (self._spec,)

    def __str__(self) -> str:
        return f"LateVocabulary({self.spec})"

    __repr__ = __str__


class _State(dict[str, Any]):
    """The state of a late SentencePiece vocabulary: equal to that of SeqIO's of the same content, wherever it lies."""

    def __init__(self, vocabulary: LateVocabulary) -> None:
        super().__init__(vocabulary.load().__getstate__())
        self._says_sentinels = "?" in (vocabulary.spec or "")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dict):
            return False
        if not self._says_sentinels and not other.get("_extra_ids"):
            return _same({**self, "_extra_ids": other.get("_extra_ids")}, other)
        return _same(self, other)

    __hash__ = None  # as any dict


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two states of SentencePiece vocabularies differ at most in what the same file is called."""
    if {**one, _FILE: None} != {**other, _FILE: None}:
        return False
    return one[_FILE] == other[_FILE] or _content(one[_FILE]) == _content(other[_FILE])


def _content(file: str) -> str | None:
    """The SHA-256 of a model file; None where it is not there."""
    try:
        with tf.io.gfile.GFile(os.path.expanduser(file), "rb") as handle:
            return hashlib.sha256(handle.read()).hexdigest()
    except (tf.errors.OpError, OSError):
        return None


def _seqio_class(spec: str) -> type[seqio.Vocabulary]:
    if spec.partition("?")[0] == BYTES:
        return seqio.ByteVocabulary
    return HuggingFaceVocabulary if _is_tokenizer_json(spec) else seqio.SentencePieceVocabulary


def _is_tokenizer_json(spec: str) -> bool:
    """Told by the file; one that is not there is missed when the vocabulary is used."""
    try:
        return vocabulary.is_tokenizer_json(spec)
    except (UserError, OSError):
        return False


@functools.lru_cache(maxsize=8)
def _load_vocabulary(spec: str) -> seqio.Vocabulary:
    name, extra_ids = parse_spec(spec)
    if name == BYTES:
        return seqio.ByteVocabulary(extra_ids=extra_ids)
    if _is_tokenizer_json(spec):
        return HuggingFaceVocabulary(spec)
    # The number of sentinels that flanx gives a model where the spec names none.
    extra_ids = vocabulary.load(spec).extra_ids
    return seqio.SentencePieceVocabulary(resources.resolve(name), extra_ids=extra_ids)
