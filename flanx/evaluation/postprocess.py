"""Postprocessors: what of a generated text is the answer. Plain functions str -> str, idempotent.

The evaluator applies a task's postprocessor to predictions and references alike before its metrics
see them (as SeqIO does), so each leaves a text that is already a bare answer as it is.
"""

import re
from typing import Any

from flanx.user_code import import_by_name
from flanx.user_code.import_by_name import POSTPROCESSOR

NAMES = (
    "after_the_answer_is",
    "first_line",
    "first_number",
    "last_line",
    "last_number",
    "lowercase",
    "strip",
)
_ANSWER_IS = re.compile(r"\b(?:final\s+)?answer\s*(?:is|=|:)\s*:?\s*", flags=re.IGNORECASE)
# A point or comma belongs to a number only with a digit after it.
_NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?")


def strip(text: str) -> str:
    """The text without outer white space."""
    return text.strip()


def lowercase(text: str) -> str:
    """The text without outer white space, in lower case."""
    return text.strip().lower()


def first_line(text: str) -> str:
    """The first line that is not blank."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def last_line(text: str) -> str:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def after_the_answer_is(text: str) -> str:
    """What follows the last "the answer is" (or "answer:") on its line, less a final full stop.

    A text without the words is taken as the answer itself.
    """
    found = list(_ANSWER_IS.finditer(text))
    if not found:
        return _without_stop(text)
    return _without_stop(first_line(text[found[-1].end() :]))


def first_number(text: str) -> str:
    """The first number in digits, thousands separators removed; "" where there is none."""
    found = _NUMBER.search(text)
    return found.group().replace(",", "") if found else ""


def last_number(text: str) -> str:
    """The last number in digits, thousands separators removed; "" where there is none."""
    found = _NUMBER.findall(text)
    return found[-1].replace(",", "") if found else ""


def resolve(name: str) -> Any:
    """The postprocessor that `"module:name"` names; a bare name is one of this module's.

    Raises:
      UserError: there is no such module or function; the nearest name is offered.
    """
    return import_by_name.load(name, POSTPROCESSOR)


def name_of(postprocessor: Any) -> str:
    """`"module:name"` of a postprocessor given as a function or by name.

    Raises:
      UserError: a lambda or a local function, which no name finds again, or an unknown name.
    """
    return import_by_name.name_of(postprocessor, POSTPROCESSOR)


def _without_stop(text: str) -> str:
    text = text.strip()
    return text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text
