"""A Hugging Face tokenizer.json as a SeqIO vocabulary, for tasks of flanx's and of others."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from flanx.data import vocabulary
from flanx.errors import UserError


class HuggingFaceVocabulary(seqio.Vocabulary):
    """A tokenizer.json, with the ids that `flanx cache` stores.

    `HuggingFaceVocabulary("Qwen3-1.7B")` stands in a `seqio.Feature` like SeqIO's own vocabularies. Two are equal where
    they give the same ids to every text, wherever their files lie. SeqIO pads with 0 and takes 0 for padding in its
    feature converters whatever `pad_id` is: flanx's own batches rely on lengths instead.

    Args:
      spec: a folder or file, as for `flanx.data.vocabulary.load`.

    Raises:
      UserError: it cannot be read, or is another kind of vocabulary.
    """

    def __init__(self, spec: str | os.PathLike[str]) -> None:
        super().__init__()
        self._words = vocabulary.load(os.fspath(spec))
        if not vocabulary.is_tokenizer_json(os.fspath(spec)):
            raise UserError(
                f"vocabulary '{spec}' is no tokenizer.json: take seqio.SentencePieceVocabulary or ByteVocabulary"
            )

    @property
    def spec(self) -> str:
        """Names it for `flanx.data.vocabulary.load`, from any working directory."""
        query = self._words.spec.partition("?")[2]
        return f"{self._words.path}?{query}"

    @property
    def fingerprint(self) -> str:
        return self._words.fingerprint

    @property
    def bos_id(self) -> int | None:
        return self._words.bos_id

    @property
    def eos_id(self) -> int | None:
        return self._words.eos_id

    @property
    def unk_id(self) -> int | None:
        return self._words.unk_id

    @property
    def pad_id(self) -> int:
        return self._words.pad_id or 0

    @property
    def _base_vocab_size(self) -> int:
        return self._words.size

    def _encode(self, s: str) -> Sequence[int]:
        return self._words.encode(s)

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the first id that ends an answer."""
        return self._decode(ids.numpy() if isinstance(ids, tf.Tensor) else ids)

    def _decode(self, ids: Any) -> str:
        return self._words.decode(np.asarray(ids).tolist())

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        """int32[n] of a text; of texts [b] a ragged tensor, as SeqIO's SentencePiece vocabulary gives."""
        if tf.convert_to_tensor(s).shape.rank == 0:
            return self._ids(s)
        ragged = tf.RaggedTensorSpec([None], tf.int32)
        return tf.map_fn(self._ids, s, fn_output_signature=ragged)

    def _ids(self, text: tf.Tensor) -> tf.Tensor:
        def encode(content: Any) -> np.ndarray:
            # TensorFlow hands over bytes inside a graph, and an array of them outside.
            whole: bytes = content if isinstance(content, bytes) else content.item()
            return np.array(self._words.encode(whole.decode("utf-8", "replace")), np.int32)

        return tf.ensure_shape(tf.numpy_function(encode, (text,), tf.int32), (None,))

    def decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        """Texts of int32[n] or int32[b, n], each up to the first id that ends an answer."""
        return self._decode_tf(ids)

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        def decode(row: np.ndarray) -> bytes:
            return self._words.decode(row.tolist()).encode("utf-8", "replace")

        def text(row: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(decode, (row,), tf.string), ())

        ids = tf.convert_to_tensor(ids)
        if ids.shape.rank == 1:
            return text(ids)
        return tf.map_fn(text, ids, fn_output_signature=tf.string)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HuggingFaceVocabulary) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        return HuggingFaceVocabulary, (self.spec,)

    def __str__(self) -> str:
        return f"HuggingFaceVocabulary({self.spec})"

    __repr__ = __str__
