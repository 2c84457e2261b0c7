"""Answers to many questions as a JSONL file: in the order of the questions, and continued after a kill.

Answers may come in any order; each waits for those before it, and is then written. They gather in `<output>.partial`,
and `<output>.partial.json` says which job they are of. A job that is started again keeps the lines that are there; when
all is done the file is renamed to `<output>`. So `<output>` is always complete, and never a mixture of two jobs.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from flanx.errors import UserError

Row = dict[str, Any]
# (place, row) of each question that is left -> (place, fields to add), in any order.
Answers = Callable[[Iterator[tuple[int, Row]]], Iterable[tuple[int, Mapping[str, Any]]]]
Progress = Callable[[int, int], None]  # (lines done, lines in all)

_SECONDS = 1.0  # after which what is written is forced to the disk


class Unwritten(UserError):
    """The system refused to take an answer, after work had begun."""

    status = 1


@dataclass(frozen=True)
class Questions:
    """What is to be answered.

    Attributes:
      count: of questions.
      rows: their rows, from a place on.
      identity: what tells them from other questions; JSON.
    """

    count: int
    rows: Callable[[int], Iterator[Row]]
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How many lines were answered in all, and were there before."""

    answered: int
    kept: int


def answer_file(
    questions: Questions,
    output: str | os.PathLike[str],
    answers: Answers,
    *,
    job: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Writes each row with the fields of its answer, in the order of the questions.

    Args:
      questions: what to answer.
      output: JSONL; every field of a row passes through.
      answers: asked once for all that are left.
      job: what else decides the answers (model, step, settings); another job's partial output is not continued.
      progress: told (lines done, lines in all).

    Raises:
      Unwritten: the system refused a write; what is written by then stays, and the same call continues it.
    """
    final = Path(output)
    partial = Path(f"{final}.partial")
    return _answer_file(questions, final, partial, answers, job or {}, progress)


def _answer_file(
    questions: Questions,
    final: Path,
    partial: Path,
    answers: Answers,
    job: Mapping[str, Any],
    progress: Progress | None,
) -> Outcome:
    with _told(partial):
        final.parent.mkdir(parents=True, exist_ok=True)
        kept = _keep(partial, {**job, **questions.identity}, questions.count)
        handle = partial.open("ab")
    done = kept
    if progress:
        progress(done, questions.count)
    with handle:
        forced = time.monotonic()
        for row, added in in_order(questions, answers, kept):
            with _told(partial):
                write_line(handle, row, added)
                handle.flush()
                if time.monotonic() - forced > _SECONDS:
                    os.fsync(handle.fileno())
                    forced = time.monotonic()
            done += 1
            if progress:
                progress(done, questions.count)
        with _told(partial):
            os.fsync(handle.fileno())
    with _told(partial):
        partial.replace(final)
        _identity_path(partial).unlink(missing_ok=True)
    return Outcome(done, kept)


@contextlib.contextmanager
def _told(partial: Path) -> Iterator[None]:
    """Turns a refused write into a line that says where the answers so far are."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        at = error.filename or partial
        kept = f"the answers so far are in {partial}" if partial.exists() else "no answer is kept"
        raise Unwritten(
            f"{at} cannot be written to ({(error.strerror or str(error)).lower()}); {kept}: allow it or make room, "
            "and run the same command again, which resumes there"
        ) from error


def in_order(
    questions: Questions, answers: Answers, first: int = 0
) -> Iterator[tuple[Row, Mapping[str, Any]]]:
    """Yields (row, fields of its answer) from place `first` on, each when those before it are there."""
    rows: dict[int, Row] = {}
    ready: dict[int, Mapping[str, Any]] = {}

    def asked() -> Iterator[tuple[int, Row]]:
        for place, row in enumerate(questions.rows(first), first):
            rows[place] = row
            yield place, row

    following = first
    for place, added in answers(asked()):
        ready[place] = added
        while following in ready:
            yield rows.pop(following), ready.pop(following)
            following += 1


def write_line(handle: BinaryIO, row: Row, added: Mapping[str, Any]) -> None:
    """One object on a line of its own."""
    line = json.dumps({**row, **added}, ensure_ascii=False)
    # A lone surrogate in another field goes out as the \u escape it came in as.
    handle.write(line.encode("utf-8", errors="backslashreplace") + b"\n")


def _keep(partial: Path, identity: Mapping[str, Any], count: int) -> int:
    """Cuts a partial output of the same job down to its whole lines; returns how many stay."""
    note = _identity_path(partial)
    kept, size = 0, 0
    if _read_note(note) == json.loads(json.dumps(identity)) and partial.exists():
        with partial.open("rb") as handle:
            for line in handle:
                if kept == count or not _whole(line):
                    break
                kept += 1
                size += len(line)
    if kept:
        os.truncate(partial, size)
    else:
        partial.unlink(missing_ok=True)
        note.write_text(json.dumps(identity))
    return kept


def _whole(line: bytes) -> bool:
    """Whether a line was written to its end; after a power cut its bytes may be there as zeros."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _read_note(note: Path) -> Any:
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return None


def _identity_path(partial: Path) -> Path:
    return Path(f"{partial}.json")
