"""What a vocabulary is called: a file, a folder or `bytes`, and what is said behind the question mark."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

from flanx.errors import UserError

DEFAULT_EXTRA_IDS = 100
_MOST_EXTRA_IDS = 1_000_000  # each becomes a piece of the model in memory
_MOST_DIGITS = 9  # of an id
BYTES = "bytes"
IDS = ("eos_id", "bos_id", "pad_id")
PREFIXES = ("first", "always", "never")
_TEXTS = ("stop_ids", "adds_bos", "prefix", "added")


@dataclass(frozen=True)
class Spec:
    """A spec taken apart.

    Attributes:
      name: the file, folder or `bytes`.
      extra_ids: the number of sentinels that it asks for; None where it says nothing.
      special: `eos_id`, `bos_id`, `pad_id`, `stop_ids`, `adds_bos`, `prefix` and `added`, as far as it says them.
    """

    name: str
    extra_ids: int | None = None
    special: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)


def parse(spec: str) -> Spec:
    """Takes `name?extra_ids=n` or `name?eos_id=2&bos_id=1` apart.

    Raises:
      UserError: what stands behind the question mark is not understood.
    """
    name, question, query = spec.partition("?")
    if not question:
        return Spec(name)
    key, _, value = query.partition("=")
    if key == "extra_ids" and value.isdecimal():
        if len(value) > 7 or int(value) > _MOST_EXTRA_IDS:
            raise UserError(f"vocabulary '{spec[:200]}': extra_ids is beyond {_MOST_EXTRA_IDS:,}")
        return Spec(name, int(value))
    told = parse_qsl(query, keep_blank_values=True)
    special: dict[str, str | tuple[str, ...]] = {}
    for key, value in told:
        number = value.isdecimal() and len(value) <= _MOST_DIGITS
        if key == "added" and value:
            special[key] = (*special.get(key, ()), value)
        elif key in special or not (
            (key in IDS and number)
            or (key == "stop_ids" and all(part.isdecimal() for part in value.split(",")))
            or (key == "adds_bos" and value in ("true", "false"))
            or (key == "prefix" and value in PREFIXES)
        ):
            special.clear()
            break
        else:
            special[key] = value
    if not special:
        raise UserError(
            f"vocabulary '{spec[:200]}': '?{query[:200]}' is not understood; write '{name}?extra_ids=100' for a "
            f"SentencePiece model, '{name}?eos_id=2' for a tokenizer.json"
        )
    return Spec(name, None, special)


def parse_spec(spec: str) -> tuple[str, int]:
    """Splits `name?extra_ids=n` into the name and n; T5's number where it says none.

    Raises:
      UserError: what stands behind the question mark is not understood.
    """
    parsed = parse(spec)
    if parsed.extra_ids is not None:
        return parsed.name, parsed.extra_ids
    return parsed.name, 0 if parsed.name == BYTES or parsed.special else DEFAULT_EXTRA_IDS


def written(name: str, special: Mapping[str, object]) -> str:
    """The spec of a tokenizer.json with what it says of special tokens; None and empty values are left out."""
    pairs = []
    for key in (*IDS, *_TEXTS):
        value = special.get(key)
        if isinstance(value, bool):
            value = "true" if value else "false"
        if key == "added":
            pairs += [f"added={quote(str(token), safe='')}" for token in value or ()]  # type: ignore[attr-defined]
        elif value is not None and value != ():
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            pairs.append(f"{key}={text}")
    return f"{name}?{'&'.join(pairs)}"


def with_file(spec: str, file: str) -> str:
    """The same vocabulary read from a copy of its model file: what the spec says of it stays."""
    name, question, query = spec.partition("?")
    if question:
        return f"{file}?{query}"
    return f"{file}?extra_ids={parse_spec(spec)[1]}" if name != BYTES else spec
