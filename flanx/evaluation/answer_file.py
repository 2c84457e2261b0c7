"""Answers a JSONL file into another: in order, a window at a time, and continued after a kill.

Answers gather in `<output>.partial`, and `<output>.partial.json` says which job they are of. A job
that is started again keeps the whole windows that are there; when all is done the file is renamed to
`<output>`. So `<output>` is always complete, and never a mixture of two jobs.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from flanx.errors import UserError, did_you_mean

Answer = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Scan:
    """What a first reading of the input found.

    Attributes:
      lines: lines with a question.
      bad: (line number, what is wrong, the line) of each malformed line.
      sha256: of the whole file.
    """

    lines: int
    bad: tuple[tuple[int, str, str], ...]
    sha256: str


@dataclass(frozen=True)
class Outcome:
    """How many lines were answered in all, were there before, and were left out as malformed."""

    answered: int
    kept: int
    skipped: int


def scan(path: str | os.PathLike[str], field: str) -> Scan:
    """Reads the input once: counts its questions and finds malformed lines.

    Raises:
      UserError: there is no such file.
    """
    digest = hashlib.sha256()
    lines, bad = 0, []
    for number, raw in _raw_lines(path):
        digest.update(raw)
        wrong = _parse(raw, field)
        if isinstance(wrong, str):
            bad.append((number, wrong, raw.decode("utf-8", errors="replace").rstrip("\r\n")))
        elif wrong is not None:
            lines += 1
    return Scan(lines, tuple(bad), digest.hexdigest())


def answer_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    answer: Answer,
    *,
    field: str = "inputs",
    window: int = 512,
    job: Mapping[str, Any] | None = None,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Writes each object of `source` with its answer as "prediction", in the order of `source`.

    Args:
      source: JSONL; blank lines are passed over.
      output: JSONL; every field of an object passes through.
      answer: the answers to a list of questions.
      field: where an object's question is.
      window: lines that are answered and written together.
      job: what decides the answers (model, step, lengths); another job's partial output is not
        continued.
      skip_bad: put malformed lines in `<output>.bad` instead of refusing them.
      progress: told (lines done, lines in all).

    Raises:
      UserError: no such file, or a malformed line, named by file and number.
    """
    found = scan(source, field)
    if found.bad and not skip_bad:
        number, wrong, _ = found.bad[0]
        raise UserError(
            f"{source}:{number}: {wrong}; mend the line, or pass --skip_bad to leave it out"
        )
    final = Path(output)
    final.parent.mkdir(parents=True, exist_ok=True)
    _write_bad(final, found.bad)
    partial = Path(f"{final}.partial")
    identity = {**(job or {}), "field": field, "window": window, "sha256": found.sha256}
    kept = _keep(partial, identity, window)
    if progress:
        progress(kept, found.lines)
    done = kept
    with partial.open("ab") as handle:
        questions = islice(_questions(source, field), kept, None)
        while rows := list(islice(questions, window)):
            texts = answer([row[field] for row in rows])
            for row, text in zip(rows, texts, strict=True):
                line = json.dumps({**row, "prediction": text}, ensure_ascii=False)
                # A lone surrogate in another field goes out as the \u escape it came in as.
                handle.write(line.encode("utf-8", errors="backslashreplace") + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
            done += len(rows)
            if progress:
                progress(done, found.lines)
    partial.replace(final)
    _identity_path(partial).unlink(missing_ok=True)
    return Outcome(done, kept, len(found.bad))


def _keep(partial: Path, identity: Mapping[str, Any], window: int) -> int:
    """Cuts a partial output of the same job down to whole windows; returns the lines that stay."""
    note = _identity_path(partial)
    kept, size = 0, 0
    if _read_note(note) == dict(identity) and partial.exists():
        with partial.open("rb") as handle:
            # A last line without its line break was cut off.
            sizes = [len(line) for line in handle if line.endswith(b"\n")]
        kept = len(sizes) // window * window
        size = sum(sizes[:kept])
    if kept:
        os.truncate(partial, size)
    else:
        partial.unlink(missing_ok=True)
        note.write_text(json.dumps(dict(identity)))
    return kept


def _read_note(note: Path) -> Any:
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _identity_path(partial: Path) -> Path:
    return Path(f"{partial}.json")


def _write_bad(final: Path, bad: Sequence[tuple[int, str, str]]) -> None:
    side = Path(f"{final}.bad")
    if not bad:
        side.unlink(missing_ok=True)
        return
    rows = ({"line": number, "error": wrong, "text": text} for number, wrong, text in bad)
    side.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _questions(path: str | os.PathLike[str], field: str) -> Iterator[dict[str, Any]]:
    for _, raw in _raw_lines(path):
        row = _parse(raw, field)
        if isinstance(row, dict):
            yield row


def _raw_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, bytes]]:
    if not Path(path).is_file():
        wrong = "is a folder" if Path(path).is_dir() else "does not exist"
        raise UserError(f"'{path}' {wrong}; --input takes a JSONL file")
    with Path(path).open("rb") as handle:
        yield from enumerate(handle, start=1)


def _parse(raw: bytes, field: str) -> dict[str, Any] | str | None:
    """The object of a line, what is wrong with it, or None for a blank line."""
    if not raw.strip():
        return None
    try:
        row = json.loads(raw)
    except ValueError as error:
        return f"not valid JSON ({error})"
    if not isinstance(row, dict):
        return f"not a JSON object but {type(row).__name__}"
    if field not in row:
        return f"no field '{field}'{did_you_mean(field, row)} (--field names the question's)"
    if not isinstance(row[field], str):
        return f"field '{field}' is no text but {type(row[field]).__name__}"
    if any("\ud800" <= c <= "\udfff" for c in row[field]):
        return f"field '{field}' is no valid Unicode (half a surrogate pair)"
    return row
