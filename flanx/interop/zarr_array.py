"""Zarr arrays one by one: through TensorStore, and without it where plain bytes of a zarr v2 array lie on a disk.

Plain reading is as fast as the disk, tells a missing or short chunk by name, and leaves an array of zarr's order "F" in
that order: as a transpose, which costs nothing to write to a form that keeps it transposed.
"""

import functools
import itertools
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from flanx.errors import UserError
from flanx.interop import json_text
from flanx.interop.source import ArrayInfo, PlainBytes, StoredArray
from flanx.interop.zarr_write import part_of


@functools.cache
def context() -> ts.Context:
    """Of all reads: no cache, which would fill memory with arrays that are read once."""
    return ts.Context({"cache_pool": {"total_bytes_limit": 0}})


# How many bytes of an array a byte of its files can stand for: zstd, the best of the codecs, packs 128 KiB of one value
# into some 4 bytes. Small arrays are let be.
_MOST_PACKED, _MOST_PLAIN = 2**17, 16
_SMALL = 2**20


def bytes_in(folder: Path) -> int:
    """Of all files in a folder and the folders in it."""
    return sum(
        (Path(place) / file).stat().st_size for place, _, files in os.walk(folder) for file in files
    )


def open_array(
    spec: dict[str, Any],
    name: str,
    where: str,
    *,
    there: Callable[[], int] | None = None,
    trust_spec: bool = False,
) -> StoredArray:
    """An array that TensorStore can open; only its metadata is read now.

    Args:
      spec: TensorStore's, of the driver "zarr" or "zarr3".
      name: the array's, for messages.
      where: its file or folder, for messages.
      there: bytes of the files that it lies in, among others; None where they are not on this machine.
      trust_spec: the metadata in `spec` stand for a `.zarray` that is not there.

    Raises:
      UserError: no such array, or metadata that do not fit.
    """
    try:
        opened = ts.open(spec, open=True, assume_metadata=trust_spec, context=context()).result()
    except Exception as error:
        raise _damaged(name, where, error) from error
    info = ArrayInfo(tuple(opened.shape), np.dtype(opened.dtype.numpy_dtype))
    if there is not None:
        _check_size(name, where, info, there, _MOST_PACKED)

    def read() -> np.ndarray:
        try:
            return opened.read().result()
        except Exception as error:
            raise _damaged(name, where, error) from error

    return StoredArray(info, where, read)


def open_folder(folder: Path, name: str) -> StoredArray | None:
    """A zarr v2 folder of plain bytes; None where it is another, which TensorStore reads.

    Raises:
      UserError: its `.zarray` cannot be read.
    """
    file = folder / ".zarray"
    if not file.is_file():
        return None
    try:
        metadata = json_text.parse(file.read_bytes())
        shape = tuple(json_text.count(n) for n in metadata["shape"])
        chunks = tuple(json_text.count(n) for n in metadata["chunks"])
        plain = metadata["compressor"] is None and metadata["filters"] is None
        kind, columns = metadata["dtype"], metadata["order"] == "F"
        separator = metadata.get("dimension_separator", ".")
        if separator not in (".", "/"):
            raise ValueError(f"separator {separator!r}")
        whole = all(c > 0 and n % c == 0 for n, c in zip(shape, chunks, strict=True))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(name, str(folder), error) from error
    if not plain or not whole or kind not in ("bfloat16", "<f4", "<f2", "<f8", "<i4", "<i8"):
        return None
    import ml_dtypes

    info = ArrayInfo(shape, np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind))
    _check_size(name, str(folder), info, lambda: bytes_in(folder), _MOST_PLAIN)
    read = functools.partial(_read_plain, folder, name, info, chunks, separator, columns)
    chunk = folder / (separator.join("0" * len(shape)) or "0")
    together = PlainBytes(chunk, 0, columns) if shape == chunks else None
    return StoredArray(info, str(folder), read, together)


def _read_plain(
    folder: Path,
    name: str,
    info: ArrayInfo,
    chunks: tuple[int, ...],
    separator: str,
    columns: bool,
) -> np.ndarray:
    array = np.empty(info.shape[::-1] if columns else info.shape, info.dtype)
    values = array.T if columns else array
    counts = (n // c for n, c in zip(info.shape, chunks, strict=True))
    for place in itertools.product(*map(range, counts)):
        file = folder / (separator.join(map(str, place)) or "0")
        part = values[part_of(place, chunks)]
        stored = part.T if columns else part
        if stored.flags.c_contiguous:
            _fill(file, stored, name)
        else:
            chunk = np.empty(stored.shape, info.dtype)
            _fill(file, chunk, name)
            stored[...] = chunk
    return values


def _fill(file: Path, array: np.ndarray, name: str) -> None:
    """Reads a whole file into a contiguous array."""
    try:
        with file.open("rb", buffering=0) as handle:
            left = array.reshape(-1).view(np.uint8).data
            while len(left) and (count := handle.readinto(left)):
                left = left[count:]
            short = len(left) or bool(handle.read(1))
    except FileNotFoundError as error:
        raise UserError(
            f"array '{name}': {file} is missing, the checkpoint is not whole: copy it again"
        ) from error
    if short:
        size = math.prod(array.shape) * array.itemsize
        raise UserError(
            f"array '{name}': {file} has {file.stat().st_size} bytes instead of {size}, it is damaged: "
            "copy the checkpoint again"
        )


def _check_size(
    name: str, where: str, info: ArrayInfo, there: Callable[[], int], most: int
) -> None:
    """Refuses metadata that speak of far more than the files can hold, before memory is asked for."""
    if info.nbytes > _SMALL and info.nbytes > most * (held := there()):
        raise UserError(
            f"array '{name}' in {where} is {info.shape} {info.dtype} by its metadata, {info.nbytes:,} bytes, and its "
            f"files have {held:,}: it is damaged, copy the checkpoint again"
        )


def _damaged(name: str, where: str, error: Exception) -> UserError:
    """One line on an array that cannot be read."""
    reason = " ".join(str(error).split()).split(" [tensorstore_spec")[0]
    reason = reason.split(" [source locations")[0]
    return UserError(
        f"array '{name}' in {where} cannot be read ({reason[:200]}): its file is damaged, copy the checkpoint again"
    )
