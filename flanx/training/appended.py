"""Files that grow by whole pieces, and outlive a full disk."""

import os
from pathlib import Path


class Appended:
    """A file opened for appending. What the disk refuses waits, and goes before the next piece."""

    def __init__(self, path: Path, beginning: bytes = b""):
        """Opens it; `beginning` waits for the first piece.

        Raises:
          OSError: it cannot be made.
        """
        self._file: int = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._closed = False
        self._waiting = beginning

    def write(self, piece: bytes) -> None:
        """Appends `piece`, for other processes to see at once.

        Raises:
          OSError: nothing of it is in the file (the disk is full, say); the next call tries again.
        """
        self._waiting += piece
        size = os.fstat(self._file).st_size
        done = 0
        try:
            while done < len(self._waiting):
                done += os.write(self._file, self._waiting[done:])
        except OSError:
            os.ftruncate(self._file, size)
            raise
        self._waiting = b""

    def close(self) -> None:
        """Tries once more to write what waits; a file that is closed stays so.

        Raises:
          OSError: in vain.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.write(b"")
        finally:
            os.close(self._file)
