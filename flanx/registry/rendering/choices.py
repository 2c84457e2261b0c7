"""A row's options and the one of them that is its answer.

Options are a list of texts. The answer is one of them to the letter, or differs from a single one in white space,
letter case or the way a number is written; then it is read as that one. Other shapes (a text to be cut, a dict, a
place or a label for an answer) have more than one reading, and are refused with the line of code that makes them clear.
"""

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from flanx.registry.rendering.texts import NotText, all_texts, refusal

NOT_AMONG = "answer not among the options"

# "B", "(b)", "2.": what stands before an option in a list of them
_LABEL = re.compile(r"\s*[(\[]?(?:([A-Za-z])|(\d{1,2}))[)\].:]?\s*")
_LABEL_BEFORE = re.compile(r"\s*[(\[]?(?:[A-Za-z]|\d{1,2})[)\].:]\s")


def settle(fields: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Makes `options` a list of different texts, and `answer` one of them where it means a single one.

    Args:
      fields: the row's fields as `texts.plain` gives them; changed in place.
      given: the same as the row gave them.

    Raises:
      NotText: the options are no list of texts, or the answer is no text, or a label or a place of an option.
    """
    options = fields.get("options")
    if options is None:
        return
    if not isinstance(options, (list, tuple)) or not all_texts(options):
        raise _options_refused(options)
    kept = options
    if len(set(options)) < len(options) or not all(map(str.strip, options)):
        kept = fields["options"] = [one for one in dict.fromkeys(options) if one.strip()]
    answer = fields.get("answer")
    if not kept or answer is None:
        return
    if type(answer) is str and answer in kept:
        return
    answers = answer if isinstance(answer, list) else [answer]
    if not all_texts(answers):
        refused = refusal(answer)
        raise NotText(f"answer is {refused.kind}", refused.fix)
    if any(one in kept for one in answers):
        return
    meant = [one for one in (_meant(one, kept) for one in answers) if one is not None]
    if meant:
        fields["answer"] = meant if isinstance(answer, list) else meant[0]
        return
    _refuse_reference(given.get("answer"), answers, kept)


def usable(fields: Mapping[str, Any]) -> Sequence[str]:
    """The row's options where one of them is its answer; otherwise empty."""
    options = fields.get("options")
    answer = fields.get("answer")
    if not isinstance(options, list) or not options or answer is None:
        return ()
    answers = answer if isinstance(answer, list) else (answer,)
    return options if any(one in options for one in answers) else ()


def contradicted(fields: Mapping[str, Any]) -> bool:
    """Whether the row has options and an answer, and the answer is none of the options."""
    answer = fields.get("answer")
    answers = answer if isinstance(answer, list) else (answer,)
    given = any(isinstance(one, str) and one.strip() for one in answers)
    return bool(fields.get("options")) and given and not usable(fields)


def _meant(answer: str, options: Sequence[str]) -> str | None:
    """The single option that an answer equals but for white space, then letter case, then the form of a number."""
    for alike in (_even, _folded, _number):
        wanted = alike(answer)
        found = [option for option in options if wanted is not None and alike(option) == wanted]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def _even(text: str) -> str:
    return " ".join(text.split())


def _folded(text: str) -> str:
    return _even(text).casefold()


def _number(text: str) -> float | None:
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _options_refused(options: Any) -> NotText:
    def refused(kind: str, example: str) -> NotText:
        return NotText(f"options is {kind}", f"give a list of texts: {example}")

    if isinstance(options, str):
        return refused("a text, not a list", "row['options'].split(', '), say")
    if isinstance(options, Mapping):
        if options and all(isinstance(one, (list, tuple)) for one in options.values()):
            return refused("a dict of lists", f"row['options'][{next(iter(options))!r}], say")
        return refused("a dict", "list(row['options'].values()), say")
    if isinstance(options, (list, tuple)):
        first = next((one for one in options if isinstance(one, Mapping)), None)
        if first is not None:
            key = "text" if "text" in first else next(reversed(list(first)), "text")
            return refused("a list of dicts", f"[one[{key!r}] for one in row['options']], say")
        if any(isinstance(one, (list, tuple)) for one in options):
            return refused("a list of lists", "[one[0] for one in row['options']], say")
    inside = refusal(options)
    return NotText(f"options is {inside.kind}", inside.fix)


def _refuse_reference(given: Any, answers: Sequence[str], options: Sequence[str]) -> None:
    """Refuses an answer that seems to point at an option: a number, or what looks like a label."""
    if all(_number(option) is not None for option in options):
        return  # numbers among numbers are no places
    is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
    for answer in answers:
        found = _LABEL.fullmatch(answer)
        letter, digits = found.groups() if found else (None, None)
        if letter is not None and ord(letter.upper()) - ord("A") < len(options):
            if all(_LABEL_BEFORE.match(option) for option in options):
                fix = "give the whole option, and options without labels of their own"
            else:
                letters = string.ascii_uppercase[: len(options)]
                fix = f"give its text: options['{letters}'.index({letter.upper()!r})], say"
            kind = "answer is a label, not one of the options"
            raise NotText(kind, fix, kind.replace("answer", f"answer {answer!r}", 1))
        if is_number or (digits is not None and int(digits) <= len(options)):
            kind = "answer is a number, not one of the options"
            fix = "give the option's text: options[answer] where places count from 0, say"
            raise NotText(kind, fix, kind.replace("answer", f"answer {answer}", 1))
