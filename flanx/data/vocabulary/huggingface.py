"""Hugging Face's tokenizer.json, read by the `tokenizers` library: the ids that transformers gives without its own
special tokens."""

import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flanx.data.vocabulary import special_tokens
from flanx.data.vocabulary.model_files import model_of
from flanx.data.vocabulary.protocol import LONG, before_end
from flanx.data.vocabulary.spec import written
from flanx.errors import UserError

FILE = "tokenizer.json"
_SHOWN = 6  # special tokens that an error names
# Where a long text may be cut: before a space between two words, if the tokenizer cuts there itself.
_CUT = re.compile(r"(?<=[^\W_])(?= [^\W_])")
_AROUND = 64  # characters on either side that tell whether it does


class HuggingFaceVocabulary:
    """Equal to `AutoTokenizer` of the folder with `add_special_tokens=False`.

    End of sequence is the token that tokenizer_config.json names, which transformers appends; where it names none, the
    first of the ids in generation_config.json or config.json. The other ids there end an answer as well.
    """

    def __init__(self, spec: str, path: str, special: Mapping[str, Any]):
        """Reads a tokenizer.json and the files beside it.

        Args:
          spec: what it is called.
          path: the tokenizer.json.
          special: what the spec says of special tokens; where it says something, no file beside is read.

        Raises:
          UserError: not a tokenizer.json, damaged, or without end-of-sequence.
        """
        content = model_of(spec, path)
        self._tokenizer = _tokenizer(spec, path, content)
        self.path: str | None = path
        self.files: tuple[str, ...] = (path,)
        if special:
            known = _of_spec(special)
        else:
            told, beside = special_tokens.read(os.path.dirname(path))
            self.files += beside
            known = _of_files(self._tokenizer, told)
        if known["prefix"] is not None:
            _rebuild(self._tokenizer, known["prefix"])
        _add(self._tokenizer, known["added"])
        size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        _check(spec, path, self._tokenizer, known, size)
        # Models may pad, or end, with rows of their table that the tokenizer does not know of: no text has them.
        known["stop_ids"] = tuple(i for i in known["stop_ids"] if i < size)
        known["pad_id"] = None if (known["pad_id"] or 0) >= size else known["pad_id"]
        name = spec.partition("?")[0]
        self.spec = written(name, known)
        self.extra_ids = 0  # sentinels are among the tokens
        self.size = size
        self.eos_id: int = known["eos_id"]
        self.bos_id: int | None = known["bos_id"]
        self.pad_id: int | None = known["pad_id"]
        self.unk_id: int | None = _unknown(self._tokenizer, content)
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys((self.eos_id, *known["stop_ids"])))
        self.adds_bos: bool = bool(known["adds_bos"]) and self.bos_id is not None
        decides = json.dumps([self.eos_id, known["added"], known["prefix"]]).encode()
        self.fingerprint = f"{hashlib.sha256(content + decides).hexdigest()}+0"

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        # One by one: the library's own batches start a thread a core, and flanx runs a process on each.
        return [self.encode(text) for text in texts]

    def parts(self, text: str) -> Iterator[str]:
        start = 0
        while len(text) - start > LONG:
            end = self._cut(text, start + LONG)
            if end is None:
                break
            yield text[start:end]
            start = end
        yield text[start:]

    def _cut(self, text: str, begin: int) -> int | None:
        """A place from `begin` on at which the ids of the text are those of its two halves."""
        space = _CUT.search(text, begin, begin + LONG)
        if space is None:
            return None
        at = space.start()
        before, after = text[at - _AROUND : at], text[at : at + _AROUND]
        whole = self.encode(before + after)
        splitter = self._tokenizer.pre_tokenizer
        if splitter is None or whole != [*self.encode(before), *self.encode(after)]:
            return None
        pieces = splitter.pre_tokenize_str(before + after)
        return at if any(begin == len(before) for _, (begin, _) in pieces) else None

    def count(self, text: str) -> int:
        return sum(len(self.encode(part)) for part in self.parts(text))

    @functools.cached_property
    def _most_per_character(self) -> int:
        """Most tokens of one ASCII character that stands alone; joined to others it makes no more."""
        return max(len(self.encode(chr(i))) for i in range(128))

    def most_tokens(self, text: str) -> int:
        return self._most_per_character * len(text) if text.isascii() else sys.maxsize

    def decode(self, ids: Iterable[int]) -> str:
        kept = before_end(ids, self.stop_ids, (self.pad_id, self.bos_id))
        inside = [i for i in kept if 0 <= i < self.size]
        return self._tokenizer.decode(inside, skip_special_tokens=False)

    def __reduce__(self) -> tuple[Any, ...]:
        from flanx.data.vocabulary.loading import load_file

        return load_file, (self.spec, self.path)

    def __repr__(self) -> str:
        return f"HuggingFaceVocabulary({self.spec!r}, size={self.size})"


def _tokenizer(spec: str, path: str, content: bytes) -> Any:
    """The tokenizer of the `tokenizers` library, which neither cuts nor pads.

    Raises:
      UserError: the file is no tokenizer.json.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_buffer(content)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library's panics are no Exceptions
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"vocabulary '{spec}': {path} is not a tokenizer.json of Hugging Face's, or a damaged one ({reason}); "
            "fetch it again"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _of_spec(special: Mapping[str, Any]) -> dict[str, Any]:
    """What a spec says, in numbers."""
    stop = special.get("stop_ids")
    return {
        **{
            name: int(special[name]) if name in special else None
            for name in ("eos_id", "bos_id", "pad_id")
        },
        "stop_ids": tuple(int(part) for part in stop.split(",")) if stop else (),
        "adds_bos": special.get("adds_bos") == "true",
        "prefix": special.get("prefix"),
        "added": tuple(special.get("added", ())),
    }


def _of_files(tokenizer: Any, told: special_tokens.SpecialTokens) -> dict[str, Any]:
    """What the files say, in ids of the tokenizer; tokens that it lacks are added to it first."""
    there = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    added = tuple(token for token in told.added if token not in there)
    _add(tokenizer, added)

    def id_of(token: str | None, otherwise: int | None) -> int | None:
        return otherwise if token is None else tokenizer.token_to_id(token)

    bos_id = id_of(told.bos, told.bos_id)
    eos_id = id_of(told.eos, next(iter(told.eos_ids), None))
    stop = tuple(i for i in told.eos_ids if i != eos_id)
    return {
        "eos_id": eos_id,
        "bos_id": bos_id,
        "pad_id": id_of(told.pad, told.pad_id),
        "stop_ids": stop,
        "adds_bos": _puts_first(tokenizer, bos_id, told.adds_bos),
        "prefix": None if _is_byte_level(tokenizer) else told.prefix,
        "added": added,
    }


def _puts_first(tokenizer: Any, bos_id: int | None, otherwise: bool) -> bool:
    """Whether a text begins with `bos_id`: as transformers does, its post-processor is believed first."""
    if tokenizer.post_processor is None:
        return otherwise
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    return bos_id is not None and whole[: len(plain)] != plain and whole[:1] == [bos_id]


def _is_byte_level(tokenizer: Any) -> bool:
    """Whether the tokens are of bytes: Llama 3's folders may name Llama 2's class."""
    return "ByteLevel" in str(tokenizer.pre_tokenizer) or "ByteLevel" in str(tokenizer.decoder)


def _rebuild(tokenizer: Any, prefix: str) -> None:
    """The steps before the model as transformers' `LlamaTokenizer` has them, whatever the file says."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prefix, split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if prefix != "never":
        steps.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(steps)


def _add(tokenizer: Any, tokens: Sequence[str]) -> None:
    if tokens:
        from tokenizers import AddedToken

        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in tokens]
        )


def _check(spec: str, path: str, tokenizer: Any, known: Mapping[str, Any], size: int) -> None:
    """Refuses a tokenizer without end-of-sequence, and special ids that it does not have.

    Raises:
      UserError: naming the special tokens that it has.
    """
    if size == 0:
        raise UserError(f"vocabulary '{spec}': {path} holds no tokens; fetch it again")
    if known["eos_id"] is None:
        special = {
            i: token.content
            for i, token in sorted(tokenizer.get_added_tokens_decoder().items())
            if token.special
        }
        names = ", ".join(f"{i} '{text}'" for i, text in list(special.items())[:_SHOWN])
        raise UserError(
            f"vocabulary '{spec}': {path} has no end-of-sequence token: neither {special_tokens.TOKENIZER_CONFIG} nor "
            f"{special_tokens.GENERATION_CONFIG} beside it names one; name it with '?eos_id=N' (its special tokens: "
            f"{names or 'none'})"
        )
    beyond = [i for i in (known["eos_id"], known["bos_id"]) if i is not None and i >= size]
    if beyond:
        raise UserError(
            f"vocabulary '{spec}': special token {beyond[0]} is beyond the {size} ids of {path}: the files beside it "
            "are of another tokenizer"
        )


def _unknown(tokenizer: Any, content: bytes) -> int | None:
    """The id of unknown pieces; byte-level models have none."""
    model = tokenizer.model
    if type(model).__name__ == "Unigram":  # which the library does not tell
        return json.loads(content)["model"].get("unk_id")
    token = getattr(model, "unk_token", None)
    return None if token is None else tokenizer.token_to_id(token)
