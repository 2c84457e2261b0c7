"""Converts a checkpoint from one form to another, array by array, whole or not at all.

Arrays stream: each is read, put into the target's form and written before many others are read, so memory holds the
largest array, what is made of it, and little more. All is written to a temporary folder beside the destination,
which is renamed at the end; what a kill left of an earlier try is cleared away first.
"""

import errno
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.filesize import decimal

from flanx.errors import UserError
from flanx.interop import planned, t5x_form
from flanx.interop.hf import folder as hf_folder
from flanx.interop.places import Place
from flanx.interop.source import Source

_IN_FLIGHT_BYTES = 512 * 2**20  # of several arrays at a time; a larger one goes alone
_THREADS = 4


def convert(
    source: Source,
    target: Any,
    temporary: Path,
    destination: Path,
    *,
    overwrite: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Writes `target` from `source`, and renames it.

    Args:
      source: the checkpoint.
      target: planned to write into `temporary`.
      temporary: that `opened` gave.
      destination: where it goes.
      overwrite: replace what is there.
      advance: told the bytes of each array that is written.

    Raises:
      UserError: a damaged source, or too little room on the disk.
      OSError: the disk is full all the same.
    """
    need = sum(p.info.nbytes for p in target.arrays)
    free = shutil.disk_usage(temporary).free
    if need > free:
        raise UserError(
            f"{destination.parent} has {decimal(free)} free and the checkpoint needs {decimal(need)}: "
            "make room, or choose another place"
        )
    target.start()
    try:
        _run_all(source, target, advance)
        target.finish()
    finally:
        target.close()
    _put(temporary, destination, overwrite)


@contextmanager
def opened(destination: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `destination`; it is gone at the end, renamed or removed.

    Raises:
      UserError: the destination holds something (without `overwrite`), or something that is no checkpoint; it cannot
        be written; or another process is writing there.
    """
    check_destination(destination, overwrite=overwrite)
    temporary = destination.parent / f".{destination.name}.converting"
    lock = destination.parent / f".{destination.name}.lock"
    with _opened_lock(lock) as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another flanx convert is writing {destination}: wait for it, or choose another place"
            ) from error
        try:
            _put_back(destination)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _opened_lock(lock: Path) -> TextIO:
    """The lock file, in a folder that is made for it; what cannot be written is found here."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return lock.open("w")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{lock.parent} cannot be written ({error.strerror}): choose another place"
        ) from error


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """A destination must be absent or empty, or with `overwrite` a checkpoint.

    Raises:
      UserError: it is not.
    """
    if not destination.exists():
        return
    if not destination.is_dir():
        raise UserError(f"{destination} is a file: give a new folder")
    if not any(destination.iterdir()):
        return
    if not overwrite:
        raise UserError(
            f"{destination} is not empty: give a new folder, or --overwrite to replace it"
        )
    if not _is_checkpoint(destination):
        raise UserError(
            f"{destination} holds other things than a checkpoint, and --overwrite would remove them: give a new folder"
        )


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder is what a conversion writes: not a MODEL_DIR, with all that a run has told and learned."""
    marks = (
        hf_folder.WEIGHTS,
        hf_folder.INDEX,
        t5x_form.MESSAGE,
        "state/_METADATA",
        "params/_METADATA",
    )
    if any((folder / mark).is_file() for mark in marks):
        return True
    place = Place(str(folder))
    return set(place.children()) == set(t5x_form.steps(place).values())


def _run_all(source: Source, target: Any, advance: Callable[[int], None]) -> None:
    jobs = planned.jobs(source, target.arrays)
    budget = _Budget(_IN_FLIGHT_BYTES)
    stop, failed = threading.Event(), threading.Event()

    def run(job: list[planned.Planned], cost: int) -> None:
        try:
            if not stop.is_set():
                planned.run(source, job, target)
                advance(sum(p.info.nbytes for p in job))
        except BaseException:
            failed.set()
            raise
        finally:
            budget.give(cost)

    futures: list[Future[None]] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for job in jobs:
                cost = budget.take(planned.cost(source, job))
                futures.append(pool.submit(run, job, cost))
                if failed.is_set():
                    break
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()  # what still waits has nothing to do, whether all is done or not
    for future in futures:
        future.result()


class _Budget:
    """Bytes that may be in flight; one thing larger than all of them may, alone."""

    def __init__(self, size: int):
        self._size = self._left = size
        self._changed = threading.Condition()

    def take(self, wanted: int) -> int:
        """Waits until there is room; gives what was taken."""
        wanted = min(wanted, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        return wanted

    def give(self, taken: int) -> None:
        with self._changed:
            self._left += taken
            self._changed.notify_all()


def _put(temporary: Path, destination: Path, overwrite: bool) -> None:
    if destination.exists():
        if overwrite and any(destination.iterdir()):
            old = _old(destination)
            shutil.rmtree(old, ignore_errors=True)
            os.rename(destination, old)
            os.rename(temporary, destination)
            shutil.rmtree(old, ignore_errors=True)
            return
        destination.rmdir()
    os.rename(temporary, destination)


def _put_back(destination: Path) -> None:
    """A kill between the two renames of `_put` left the replaced folder under another name."""
    if _old(destination).is_dir() and not destination.exists():
        os.rename(_old(destination), destination)


def _old(destination: Path) -> Path:
    return destination.parent / f".{destination.name}.replaced"
