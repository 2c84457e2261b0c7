"""A JSONL file of questions: read once to count them and to find malformed lines, then as they are answered."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.evaluation.answer_file import Questions, Row

Check = Callable[[Row], str | None]  # what is wrong with a row, in words


@dataclass(frozen=True)
class BadLine:
    """A malformed line: its number from 1, what is wrong with it, and itself."""

    number: int
    wrong: str
    text: str


def read(
    path: str | os.PathLike[str],
    field: str = "inputs",
    *,
    check: Check = lambda row: None,
) -> tuple[Questions, list[BadLine]]:
    """The questions of a file and its malformed lines; blank lines are passed over.

    Args:
      path: JSONL.
      field: where an object's question is.
      check: more that a line must fulfil.

    Raises:
      UserError: there is no such file.
    """
    digest = hashlib.sha256()
    count, bad = 0, []
    for number, raw in _raw_lines(path):
        digest.update(raw)
        found = _parse(raw, field, check)
        if isinstance(found, str):
            bad.append(BadLine(number, found, raw.decode("utf-8", errors="replace").rstrip("\r\n")))
        elif found is not None:
            count += 1

    def rows(first: int) -> Iterator[Row]:
        parsed = (_parse(raw, field, check) for _, raw in _raw_lines(path))
        yield from islice((row for row in parsed if isinstance(row, dict)), first, None)

    return Questions(count, rows, {"field": field, "sha256": digest.hexdigest()}), bad


def half_pair(text: str) -> str | None:
    """What is wrong with a text that is no valid Unicode, in words; None for any other.

    Half a surrogate pair comes of a \\u escape, or stands for a byte that is not UTF-8.
    """
    for place, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            return f"no valid Unicode at character {place + 1} (half a surrogate pair, or a byte that is not UTF-8)"
    return None


def refuse(path: str | os.PathLike[str], bad: Sequence[BadLine]) -> None:
    """Raises UserError for the first of the malformed lines, if there are any."""
    if bad:
        raise UserError(
            f"{path}:{bad[0].number}: {bad[0].wrong}; fix the line, or pass --skip_bad to leave it out"
        )


def put_aside(output: str | os.PathLike[str], bad: Sequence[BadLine]) -> Path:
    """Writes malformed lines to `<output>.bad` as {"line", "error", "text"}; without any, there is no such file."""
    side = Path(f"{output}.bad")
    if not bad:
        side.unlink(missing_ok=True)
        return side
    side.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"line": one.number, "error": one.wrong, "text": one.text} for one in bad)
    side.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return side


def _raw_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    if not Path(path).is_file():
        wrong = "is a folder" if Path(path).is_dir() else "does not exist"
        raise UserError(f"'{path}' {wrong}; --input takes a JSONL file")
    with Path(path).open("rb") as handle:
        yield from enumerate(handle, start=1)


def _parse(raw: bytes, field: str, check: Check) -> dict[str, Any] | str | None:
    """The object of a line, what is wrong with it, or None for a blank line."""
    if not raw.strip():
        return None
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({error})"
    if not isinstance(row, dict):
        return f"not a JSON object but {type(row).__name__}"
    if field not in row:
        return f"no field '{field}'{did_you_mean(field, row)} (--field names the question's)"
    if not isinstance(row[field], str):
        return f"field '{field}' is no text but {type(row[field]).__name__}"
    if wrong := half_pair(row[field]):
        return f"field '{field}': {wrong}"
    return check(row) or row
