"""Do the inputs give the options away? Text alone decides, so that every option style is recognised."""

import re
from collections.abc import Sequence

# Between two items of one list: a line's or a clause's end, and at most a bullet and a label.
_BETWEEN = re.compile(r"\W*[\n;|]\W*(?:[a-z]|\d{1,2})?\W*")


def lists_options(text: str, options: Sequence[str]) -> bool:
    """Whether `text` holds a list of all the options: each of them, in any order, a line or a clause each.

    Words that are an option and stand somewhere in running text ("3 or 4", "red, green and blue"), or in an
    exemplar's answer, make no list.
    """
    names = frozenset(filter(None, map(_folded, options)))
    if len(names) < 2:
        return False
    text = _folded(text)
    run: set[str] = set()
    end = None
    for found in _mentions(text, names):
        if end is not None and not _BETWEEN.fullmatch(text, end, found.start()):
            run.clear()
        run.add(found.group())
        end = found.end()
        if run == names:
            return True
    return False


def names_options(text: str, options: Sequence[str]) -> bool:
    """Whether every option occurs in `text` as a word or phrase of its own, wherever."""
    names = frozenset(filter(None, map(_folded, options)))
    return bool(names) and {found.group() for found in _mentions(_folded(text), names)} == names


def _mentions(text: str, names: frozenset[str]) -> list[re.Match[str]]:
    # The longest first, so that "not good" is not read as "good".
    alternatives = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return list(re.finditer(rf"(?<!\w)(?:{alternatives})(?!\w)", text))


def _folded(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.casefold().strip().splitlines())
