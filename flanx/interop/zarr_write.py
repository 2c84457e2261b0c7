"""Writes zarr v2 arrays as T5X and Orbax lay them out: a folder an array, chunks of at most 64 MiB.

An array that comes as the transpose of a C-ordered one is stored in zarr's order "F": the same values, none of them
moved, which is what makes converting as fast as copying. TensorStore, and so T5X and Orbax, read either order.
"""

import itertools
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from flanx.interop.source import ArrayInfo, PlainBytes
from flanx.interop.strips import copy_bytes, write_values

CHUNK_BYTES = 64 * 2**20  # T5X's; small enough for every host of a pod to read its part
GZIP = {"id": "gzip", "level": 1}


def chunk_shape(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Divisors of the lengths, the longest lowered first until a chunk fits (T5X `_choose_chunk_shape`)."""
    chunk, most = list(shape), CHUNK_BYTES / itemsize
    while np.prod(chunk, dtype=np.int64) > most:
        axis = int(np.argmax(chunk))
        chunk[axis] = next(n for n in range(chunk[axis] - 1, 0, -1) if shape[axis] % n == 0)
    return tuple(chunk)


def write(folder: Path, array: np.ndarray, *, compress: bool = False) -> None:
    """Writes an array into a new folder.

    Args:
      folder: not there yet.
      array: of any memory layout.
      compress: gzip the chunks at level 1, as T5X does.
    """
    columns = array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous
    chunks = chunk_shape(array.shape, array.dtype.itemsize)
    _start(folder, array.shape, chunks, array.dtype, columns=columns, compress=compress)
    for place in itertools.product(
        *(range(n // c) for n, c in zip(array.shape, chunks, strict=True))
    ):
        part = array[part_of(place, chunks)]
        _write_chunk(
            folder / (".".join(map(str, place)) or "0"), part.T if columns else part, compress
        )


def part_of(place: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[Any, ...]:
    """Index of a chunk's values in their array; gives a view, of a scalar too."""
    return (..., *(slice(i * c, (i + 1) * c) for i, c in zip(place, chunks, strict=True)))


def copy(folder: Path, info: ArrayInfo, plain: PlainBytes) -> bool:
    """Writes an array into a new folder by copying bytes; False, and no folder, where it needs several chunks."""
    if chunk_shape(info.shape, info.dtype.itemsize) != info.shape:
        return False
    _start(folder, info.shape, info.shape, info.dtype, columns=plain.columns, compress=False)
    chunk = folder / (".".join("0" * len(info.shape)) or "0")
    with chunk.open("wb", buffering=0) as file:
        done = copy_bytes(plain.file, plain.offset, file.fileno(), 0, info.nbytes, str(chunk))
    if not done:
        shutil.rmtree(folder)
    return done


def spec(name: str, shape: tuple[int, ...], dtype: np.dtype, *, compress: bool) -> dict[str, Any]:
    """What T5X's msgpack file says of an array in the folder `name` beside it."""
    return {
        "driver": "zarr",
        "dtype": dtype.name,
        "kvstore": {"driver": "file", "path": f"{name}/"},
        "metadata": {
            "chunks": list(chunk_shape(shape, dtype.itemsize)),
            "compressor": GZIP if compress else None,
            "shape": list(shape),
        },
    }


def _start(
    folder: Path,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype,
    *,
    columns: bool,
    compress: bool,
) -> None:
    """Makes the folder and its `.zarray`."""
    folder.mkdir(parents=True)
    metadata = {
        "chunks": list(chunks),
        "compressor": GZIP if compress else None,
        "dimension_separator": ".",
        "dtype": "bfloat16" if dtype.name == "bfloat16" else dtype.str,
        "fill_value": None,
        "filters": None,
        "order": "F" if columns else "C",
        "shape": list(shape),
        "zarr_format": 2,
    }
    (folder / ".zarray").write_text(json.dumps(metadata, separators=(",", ":")))


def _write_chunk(path: Path, part: np.ndarray, compress: bool) -> None:
    with path.open("wb", buffering=0) as file:
        if not compress:
            write_values(file.fileno(), 0, part, str(path))
            return
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        file.write(packer.compress(np.ascontiguousarray(part).reshape(-1).view(np.uint8).data))
        file.write(packer.flush())
