"""Values of an array to a place in a file, in C order, without a second copy of the array in memory."""

import errno
import os
from pathlib import Path

import numpy as np

_STRIP_BYTES = 2 * 2**20
_BLOCK = 16  # columns of a strip that are moved together: three times as fast as 64 or more, or as all at once


def write_values(descriptor: int, offset: int, array: np.ndarray, where: str) -> None:
    """Writes all of an array's values from byte `offset` on.

    Args:
      descriptor: of an open file.
      offset: where the first value goes.
      array: of any memory layout.
      where: the file's name, for an error.

    Raises:
      OSError: as the system has it, with the file's name.
    """
    if array.flags.c_contiguous:
        _write(descriptor, offset, array, where)
        return
    rows = max(1, _STRIP_BYTES // max(1, array[0].nbytes))
    for start in range(0, len(array), rows):
        strip = _gathered(array[start : start + rows])
        _write(descriptor, offset, strip, where)
        offset += strip.nbytes


def copy_bytes(
    source: Path, source_offset: int, descriptor: int, offset: int, count: int, where: str
) -> bool:
    """Copies bytes from file to file inside the kernel, as `cp` does; they never enter this process.

    Args:
      source, source_offset: where they are.
      descriptor, offset: where they go.
      count: how many.
      where: the target's name, for an error.

    Returns:
      False where the source has fewer bytes or the file system cannot do it: then read and write.

    Raises:
      OSError: the disk is full.
    """
    if not hasattr(os, "copy_file_range"):  # macOS
        return False
    try:
        handle = os.open(source, os.O_RDONLY)
    except OSError:
        return False
    try:
        while count:
            try:
                done = os.copy_file_range(handle, descriptor, count, source_offset, offset)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise OSError(error.errno, error.strerror, where) from error
                return False
            if not done:
                return False
            source_offset, offset, count = source_offset + done, offset + done, count - done
        return True
    finally:
        os.close(handle)


def _gathered(part: np.ndarray) -> np.ndarray:
    """A C-ordered copy, made in blocks where rows of the copy are columns of the original."""
    if part.ndim != 2:
        return np.ascontiguousarray(part)
    copy = np.empty(part.shape, part.dtype)
    for start in range(0, part.shape[1], _BLOCK):
        copy[:, start : start + _BLOCK] = part[:, start : start + _BLOCK]
    return copy


def _write(descriptor: int, offset: int, array: np.ndarray, where: str) -> None:
    left = array.reshape(-1).view(np.uint8).data
    while len(left):
        try:
            count = os.pwrite(descriptor, left[: 1 << 30], offset)
        except OSError as error:
            raise OSError(error.errno, error.strerror, where) from error
        offset, left = offset + count, left[count:]
