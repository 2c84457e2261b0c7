"""JSON lines, and a JSON array of objects, as numbered rows; what is malformed is named with file, line and fix."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flanx.errors import UserError
from flanx.registry.sources import text_files

_SPACE = re.compile(r"\s*")


class DuplicateKey(ValueError):
    """An object has one key twice, with different values; `args[0]` is the key."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose keys differ; a hook for `json`, which by itself takes the last of equal keys.

    Raises:
      DuplicateKey: two values of one key differ.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        for key, value in pairs:
            if found[key] != value and not (value != value and found[key] != found[key]):
                raise DuplicateKey(key)
    return found


# The scanner itself: `json.loads` would look for white space first, with two regular expressions a line.
_DECODER: Any = json.JSONDecoder(object_pairs_hook=unique)
_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once


def rows(file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number, row) of each object: one a line, or the elements of the one array that the file is.

    Raises:
      UserError: the file cannot be read, or a line is no object.
    """
    first = True
    for number, line in text_files.lines(file):
        if not line or line.isspace():
            continue
        if first and line.lstrip().startswith("["):
            yield from _array(file)
            return
        first = False
        yield number, _object(file, number, line)


def _object(file: str, number: int, line: str) -> dict[str, Any]:
    try:
        row, end = _scan(line, 0)
    except StopIteration as stop:
        row, end = None, stop.value or 0
        if line[0].isspace():
            return _object(file, number, line.lstrip())
        raise UserError(
            f"{file}:{number}: {_malformed(file, line, end, 'Expecting value')}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}:{number}: {_reason(file, line, error)}") from None
    if end != len(line) and not line[end:].isspace():
        raise UserError(f"{file}:{number}: {_malformed(file, line, end, 'Extra data')}")
    if not isinstance(row, dict):
        raise UserError(
            f"{file}:{number}: a JSON {type(row).__name__} where an object is expected; "
            "write one {...} a line"
        )
    return row


def _array(file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file that is one array, as many datasets are published, each with the line that it opens on."""
    text = text_files.whole(file)
    place = text.index("[") + 1
    counted, number = 0, 1
    more = False  # an element must follow
    while True:
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        number += text.count("\n", counted, place)
        counted = place
        if text.startswith("]", place) and not more:
            break
        row, place = _element(file, number, text, place)
        yield number, row
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]
        more = text.startswith(",", place)
        if more:
            place += 1
        elif not text.startswith("]", place):
            number += text.count("\n", counted, place)
            raise UserError(
                f"{file}:{number}: not a whole JSON array (Expecting ',' or ']'); the array that the file opens "
                "with must end with it: fetch it again, or write one object a line"
            )
    end = _SPACE.match(text, place + 1).end()  # type: ignore[union-attr]
    if end != len(text):
        number += text.count("\n", counted, end)
        raise UserError(
            f"{file}:{number}: more after the JSON array that the file opens with; write one array, or "
            "one object a line"
        )


def _element(file: str, number: int, text: str, place: int) -> tuple[dict[str, Any], int]:
    try:
        row, end = _scan(text, place)
    except StopIteration:
        raise UserError(f"{file}:{number}: not a whole JSON array (Expecting value)") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not valid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}:{number}: {_reason(file, '', error)}") from None
    if not isinstance(row, dict):
        raise UserError(
            f"{file}:{number}: the array holds a JSON {type(row).__name__} where an object is expected; "
            "write an array of {...}, or one {...} a line"
        )
    return row, end


def _reason(file: str, line: str, error: Exception) -> str:
    if isinstance(error, DuplicateKey):
        return f"the key {error.args[0]!r} stands twice in one object, with different values; rename or leave out one"
    if isinstance(error, RecursionError):
        return "nested too deeply to be read; write the row's fields flat"
    if isinstance(error, json.JSONDecodeError):
        return _malformed(file, line, error.pos, error.msg)
    if "digits" in str(error):
        most = sys.get_int_max_str_digits()
        return f"a number of more than {most:,} digits; write it as a text, in quotation marks"
    return f"not a line of JSON ({' '.join(str(error).split())}); write one object a line"


def _malformed(file: str, line: str, place: int, what: str) -> str:
    """What is wrong with a line, and the fix of the faults that are met most."""
    fix = "write one object a line"
    rest = line[place:].lstrip()
    if line.strip("\0 \t\r\n") == "":
        what, fix = (
            "NUL bytes",
            "the file was not written whole: take the line out, or fetch it again",
        )
    elif "\0" in line[:4]:
        what, fix = (
            "NUL bytes",
            f"write it as UTF-8, from UTF-16 say: iconv -f UTF-16LE -t UTF-8 {file}",
        )
    elif what == "Extra data" and line[place : place + 1] == "\r":
        fix = f"its lines end in carriage returns alone: tr '\\r' '\\n' < {file} > NEW"
    elif what == "Extra data" and rest.startswith("{"):
        fix = f"several objects on the line: write one a line (jq -c . {file} > NEW)"
    elif what == "Extra data" and rest.rstrip() == ",":
        fix = "a comma ends the line: leave it out, or put the whole in [...]"
    elif what.startswith("Expecting property name") and line[place : place + 1] == "'":
        fix = "Python's single quotes: write the row with json.dumps"
    elif what.startswith("Expecting property name") and line.strip() == "{":
        fix = f"an object on several lines: write one a line (jq -c . {file} > NEW)"
    elif place >= len(line.rstrip()) and what.startswith("Expecting"):
        fix = "the line ends early: write one whole object a line"
    return f"not a line of JSON ({what} at character {place + 1}); {fix}"
