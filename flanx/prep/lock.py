"""Who is at work in a cache folder: any number of processes that fill it, or one that removes from it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from flanx.errors import UserError

try:
    import fcntl
except ImportError:  # no such locks on this system: then nothing is held
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"


@contextlib.contextmanager
def filling(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Held while stores are made; waits for one that removes. The system frees it when the process ends, however."""
    with _held(Path(folder), wait=True, alone=False):
        yield


@contextlib.contextmanager
def removing(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Held while stores are removed.

    Raises:
      UserError: somebody fills the folder.
    """
    with _held(Path(folder), wait=False, alone=True):
        yield


@contextlib.contextmanager
def _held(folder: Path, *, wait: bool, alone: bool) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(folder / NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        how = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(handle, how)
        except BlockingIOError:
            raise UserError(
                f"a flanx cache is at work in {folder}; wait until it ends, then run again"
            ) from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(handle)
