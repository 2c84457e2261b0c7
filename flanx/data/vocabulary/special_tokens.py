"""What the files beside a tokenizer.json say of its special tokens, read as transformers reads them.

`tokenizer_config.json` names them; `special_tokens_map.json` does in older folders, and overrides it there.
`generation_config.json` has ids at which an answer ends, several for chat models, and `config.json` the model's own. A
tokenizer.json alone holds the tokens, but does not say which of them ends a sequence.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flanx.data.vocabulary.model_files import content_of
from flanx.errors import UserError

TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
GENERATION_CONFIG = "generation_config.json"
MODEL_CONFIG = "config.json"
BESIDE = (TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, GENERATION_CONFIG, MODEL_CONFIG)

_NAMED = ("eos", "bos", "pad", "unk", "sep", "cls", "mask")
# Lists of further special tokens, by their older and their newer name.
_LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens as a folder's files name them.

    Attributes:
      eos, bos, pad: the tokens; None where the tokenizer's files name none.
      eos_ids, bos_id, pad_id: ids of generation_config.json, else of config.json.
      adds_bos: whether `bos` is put before a text, where tokenizer.json does not say.
      added: every token that is named, which transformers adds to the tokenizer where it is not there.
      prefix: before what transformers puts a space in place of the steps that tokenizer.json names; None where it
        follows the file.
    """

    eos: str | None = None
    bos: str | None = None
    pad: str | None = None
    eos_ids: tuple[int, ...] = ()
    bos_id: int | None = None
    pad_id: int | None = None
    adds_bos: bool = False
    added: tuple[str, ...] = ()
    prefix: str | None = None


def read(folder: str) -> tuple[SpecialTokens, tuple[str, ...]]:
    """The special tokens of a folder, and the files that say so.

    Raises:
      UserError: one of them is damaged.
    """
    contents: dict[str, Mapping[str, Any]] = {}
    for name in BESIDE:
        content = _json(f"{folder}/{name}")
        if content is not None:
            contents[name] = content
    files = tuple(f"{folder}/{name}" for name in contents)
    config = _named(contents)
    model = {**contents.get(MODEL_CONFIG, {}), **contents.get(GENERATION_CONFIG, {})}
    return (
        SpecialTokens(
            eos=_token(config.get("eos_token")),
            bos=_token(config.get("bos_token")),
            pad=_token(config.get("pad_token")),
            eos_ids=_ids(model.get("eos_token_id")),
            bos_id=next(iter(_ids(model.get("bos_token_id"))), None),
            pad_id=next(iter(_ids(model.get("pad_token_id"))), None),
            adds_bos=config.get("add_bos_token") is True,
            added=tuple(dict.fromkeys(_added(config))),
            prefix=_prefix(config, model.get("model_type")),
        ),
        files,
    )


def _named(contents: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """The tokenizer's configuration: the map of special tokens overrides it where it lists no added tokens."""
    config = contents.get(TOKENIZER_CONFIG, {})
    older = contents.get(SPECIAL_TOKENS_MAP, {})
    return {**older, **config} if "added_tokens_decoder" in config else {**config, **older}


def _prefix(config: Mapping[str, Any], model_type: Any) -> str | None:
    """How transformers 5 rebuilds a tokenizer whose class is Llama 2's.

    It takes tokens and merges of tokenizer.json alone. The older files' own normalizer puts a space before every text
    (as SentencePiece does), transformers 5 before those only that begin with none.
    """
    declared = str(config.get("tokenizer_class", "")).removesuffix("Fast")
    if declared != "LlamaTokenizer" or model_type not in (None, "llama"):
        return None
    if config.get("add_prefix_space") is False:
        return "never"
    return "always" if config.get("legacy") else "first"


def _added(config: Mapping[str, Any]) -> Iterable[str]:
    """Every token that the configuration names."""
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, dict):
        numbered = [item for item in decoder.items() if str(item[0]).isdecimal()]
        for _, value in sorted(numbered, key=lambda item: int(item[0])):
            yield from _tokens(value)
    for name in _NAMED:
        yield from _tokens(config.get(f"{name}_token"))
    for name in _LISTS:
        listed = config.get(name)
        for value in listed.values() if isinstance(listed, dict) else listed or ():
            yield from _tokens(value)


def _tokens(value: Any) -> Iterable[str]:
    token = _token(value)
    return () if token is None else (token,)


def _token(value: Any) -> str | None:
    """A token as the files write it: the text, or an object that holds it."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) and value else None


def _ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(i for i in values if type(i) is int and i >= 0)


def _json(path: str) -> Mapping[str, Any] | None:
    """A file's JSON object; None where there is no such file.

    Raises:
      UserError: it is no JSON object.
    """
    try:
        content = json.loads(content_of(path))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}): fetch it again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object: fetch it again")
    return content
