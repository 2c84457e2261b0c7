"""The vocabulary that a spec names."""

import functools
import os

from flanx import resources
from flanx.data.vocabulary import special_tokens
from flanx.data.vocabulary.huggingface import FILE, HuggingFaceVocabulary
from flanx.data.vocabulary.model_files import first_byte, version_of
from flanx.data.vocabulary.protocol import Vocabulary
from flanx.data.vocabulary.sentencepiece_model import SentencePieceVocabulary
from flanx.data.vocabulary.spec import BYTES, Spec, parse
from flanx.data.vocabulary.utf8_bytes import ByteVocabulary
from flanx.errors import UserError


def load(spec: str, data_dir: str | None = None) -> Vocabulary:
    """The vocabulary that `spec` names; loaded once a process and file version.

    Args:
      spec: a SentencePiece model (`spiece.model`, `pkg://flanx.tasks/x.model`, `x.model?extra_ids=0`), a Hugging Face
        folder or the tokenizer.json in it (`Qwen3-1.7B`, `Qwen3-1.7B?eos_id=151645`), or `bytes`.
      data_dir: where a relative path is looked up besides the working directory.

    Raises:
      UserError: no such file, neither a SentencePiece model nor a tokenizer.json, a spec that is not understood, or no
        end-of-sequence.
    """
    parsed = parse(spec)
    if parsed.name == BYTES:
        if parsed.special:
            raise UserError(f"vocabulary '{spec}': bytes have no special tokens to choose")
        return ByteVocabulary(spec, parsed.extra_ids or 0)
    return load_file(spec, resources.resolve(parsed.name, data_dir))


def load_file(spec: str, path: str) -> Vocabulary:
    """The vocabulary that `spec` names, whose file or folder was found at `path`."""
    path = _model_file(spec, path)
    beside = tuple(f"{os.path.dirname(path)}/{name}" for name in special_tokens.BESIDE)
    return _loaded(spec, path, version_of((path, *beside)))


def is_tokenizer_json(spec: str, data_dir: str | None = None) -> bool:
    """Whether the spec names a tokenizer.json rather than a SentencePiece model or bytes; nothing is loaded for it.

    Raises:
      UserError: there is no such file.
    """
    parsed = parse(spec)
    if parsed.name == BYTES:
        return False
    return _is_json(_model_file(spec, resources.resolve(parsed.name, data_dir)))


@functools.lru_cache(maxsize=16)
def _loaded(spec: str, path: str, version: tuple[int | None, ...]) -> Vocabulary:
    del version  # a changed file is another vocabulary
    parsed: Spec = parse(spec)
    if _is_json(path):
        if parsed.extra_ids is not None:
            raise UserError(
                f"vocabulary '{spec}': {path} is a tokenizer.json, whose sentinels are among its tokens; leave "
                "'?extra_ids' out"
            )
        return HuggingFaceVocabulary(spec, path, parsed.special)
    if parsed.special:
        raise UserError(
            f"vocabulary '{spec}': {path} is a SentencePiece model, which says itself which its special tokens are; "
            "leave out what stands behind the '?'"
        )
    return SentencePieceVocabulary(spec, path, parsed.extra_ids)


def _model_file(spec: str, path: str) -> str:
    """The file that a path stands for: itself, or a folder's tokenizer.json.

    Raises:
      UserError: a folder without one.
    """
    if "://" in path or not os.path.isdir(path):
        return path
    file = os.path.join(path, FILE)
    if not os.path.isfile(file):
        models = sorted(name for name in os.listdir(path) if name.endswith(".model"))
        fix = (
            f"name the SentencePiece model in it: {os.path.join(path, models[0])}"
            if models
            else "fetch it again"
        )
        raise UserError(f"vocabulary '{spec}': there is no {FILE} in folder {path}; {fix}")
    return file


def _is_json(path: str) -> bool:
    """By name, or else by content: a run keeps its vocabulary under one name whichever it is."""
    return path.endswith(".json") or first_byte(path) == b"{"
