"""A field's value as a text: what is one, what stands for nothing, and what cannot be written as one.

Numbers and dates become the texts that they are written as, bytes are UTF-8, None and NaN stand for nothing. Whatever
has no single way to be written (a dict, a list inside a list, true and false, infinity) stays as it is, so that
whoever needs its text can refuse it by name: Python's own way of showing such a value never reaches an example.
"""

import datetime
import fractions
import math
import numbers
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

_WRITTEN_ONE_WAY = (
    fractions.Fraction,
    datetime.date,  # and datetime
    datetime.time,
    uuid.UUID,
)
_STR = frozenset((str,))
_SHOWN_KEYS = 4


class NotText(Exception):
    """A value cannot be written as the text that is needed.

    Attributes:
      kind: what is wrong, in few words, equal for all rows that have the same fault.
      fix: what to do about it.
      text: the kind with the value where that helps.
    """

    def __init__(self, kind: str, fix: str, text: str = ""):
        super().__init__(kind, fix)
        self.kind = kind
        self.fix = fix
        self.text = text or kind


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields as texts and lists of texts, None where nothing is given; what is no text stays as it is."""
    fields = dict(given)
    for name, value in given.items():
        if type(value) is not str and value is not None:
            fields[name] = text_or_list(value)
    return fields


def text_or_list(value: Any) -> Any:
    """A value as a text, or a list of texts without those that stand for nothing; what is neither stays as it is."""
    if type(value) is not list and hasattr(value, "tolist"):  # numpy's
        value = _from_numpy(value)
    if not isinstance(value, (list, tuple)):
        return text(value)
    if all_texts(value):
        return list(value)
    texts = [one for one in map(text, value) if one is not None]
    return texts if all_texts(texts) else value


def all_texts(values: Sequence[Any]) -> bool:
    """Whether all are plain `str`."""
    return _STR.issuperset(map(type, values))


def text(value: Any) -> Any:
    """A single value as a text; None where it stands for nothing; the value itself where it is no text."""
    if value is None or type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)  # an Enum's own `str` names the member
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        try:
            return str(int(value))
        except ValueError:  # Python writes no more than some thousand digits
            return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return value
    if isinstance(value, (float, Decimal)):
        if math.isfinite(value):
            return str(value)
        return value if value == value else None
    if isinstance(value, _WRITTEN_ONE_WAY):
        return str(value) if value == value else None  # pandas' NaT is a date that equals nothing
    return value


def refusal(value: Any) -> NotText:
    """What to say of a value that `text_or_list` left as it is."""
    if isinstance(value, (list, tuple)):
        inside = next((one for one in map(text, value) if not isinstance(one, str)), None)
        if isinstance(inside, (list, tuple)):
            return NotText("a list of lists", "give one list of texts")
        refused = refusal(inside)
        return NotText(f"a list that holds {refused.kind}", refused.fix)
    if isinstance(value, Mapping):
        keys = ", ".join(repr(key) for key in list(value)[:_SHOWN_KEYS])
        more = ", ..." if len(value) > _SHOWN_KEYS else ""
        one = next(iter(value), "text")
        return NotText(
            f"a dict with the keys {keys}{more}" if value else "an empty dict",
            f"take the text out of it in `fields`, [{one!r}] say",
        )
    if isinstance(value, bool):
        return NotText("a bool", "write it as a word in `fields`: 'yes' if ... else 'no', say")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return NotText("bytes that are not UTF-8", "decode them in `fields`")
    if isinstance(value, int):
        return NotText("a number of thousands of digits", "write it as a text in the file")
    if isinstance(value, numbers.Number):
        return NotText(f"the number {value}", "give a finite number, or None where there is none")
    kind = "None" if value is None else type(value).__name__
    if isinstance(value, (set, frozenset)):
        return NotText(f"a {kind}, which has no order", "give a list: sorted(...), say")
    return NotText(f"a {kind}", "give a text, a number, or a list of them")


def has_half_pair(text: str) -> bool:
    r"""Whether a text holds half a surrogate pair ("\ud83d" alone in JSON), which no encoding can write."""
    if text.isascii():
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _from_numpy(value: Any) -> Any:
    """An array as a list, a scalar as Python's; dates, which `tolist` may give as integers, as they are written."""
    if getattr(getattr(value, "dtype", None), "kind", "") in ("M", "m"):
        return str(value) if not getattr(value, "ndim", 0) else [str(one) for one in value]
    return value.tolist()
