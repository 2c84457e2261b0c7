"""What reaches a terminal: text from outside without the power to move the cursor, recolour, or hide what it says.

Data, answers and names of folders come from other people, and a terminal obeys the escape sequences in them: these can
rewrite lines above, set the window's title, or make one text look like another. Everything that is printed for the eye
goes through `printable`; JSON output is exact and does not.
"""

import re
import shlex
import sys
from typing import TextIO

# Control characters (C0, DEL, C1), line and paragraph separators, overrides and isolates of the reading direction
# (Boucher & Anderson 2021, "Trojan Source"), invisible tags, and halves of surrogate pairs, which no stream can encode.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: object, *, lines: bool = False) -> str:
    """`text` with unsafe characters written as Python escapes (`\\x1b`); letters of every script stay.

    Args:
      text: anything; `str` of it is taken.
      lines: let line breaks and tabs through, for texts that are shown as they are; False for a message of one line.
    """
    return _UNSAFE.sub(lambda found: _escaped(found.group(), lines), str(text))


def say(text: object, file: TextIO | None = None) -> None:
    """Prints a line for the user, on stderr unless told otherwise; line breaks of its own stay."""
    print(printable(text, lines=True), file=file or sys.stderr, flush=True)


def command(*words: object) -> str:
    """A command for the user to copy, quoted for a POSIX shell."""
    return shlex.join(map(str, words))


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 task", "2,292 examples"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _escaped(character: str, lines: bool) -> str:
    if lines and character in "\n\t":
        return character
    return character.encode("unicode_escape").decode("ascii")
