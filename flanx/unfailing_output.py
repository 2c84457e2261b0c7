"""Output whose reader may go away: a closed terminal, the end of a pipe or a full disk ends no long work."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any

GONE = (errno.EPIPE, errno.EIO, errno.EBADF)  # nobody reads it any more


class UnfailingOutput:
    """A text file of which no write fails. What finds no room waits in its buffer for the next one."""

    def __init__(self, file: Any):
        self._file = file

    def write(self, text: str) -> int:
        with self._forgiven():
            self._file.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiven():
            self._file.flush()

    def settle(self) -> None:
        """At the end: what still cannot be written is given up, or Python would end with a status of its own."""
        try:
            self._file.flush()
        except OSError:
            self._to_nowhere()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    @contextlib.contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in GONE:
                self._to_nowhere()

    def _to_nowhere(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)
            self._file.flush()


@contextlib.contextmanager
def unfailing() -> Iterator[None]:
    """Makes standard output and error unfailing for as long as it is entered."""
    before = sys.stdout, sys.stderr
    mine = UnfailingOutput(sys.stdout), UnfailingOutput(sys.stderr)
    sys.stdout, sys.stderr = mine
    try:
        yield
    finally:
        for output in mine:
            output.settle()
        sys.stdout, sys.stderr = before
