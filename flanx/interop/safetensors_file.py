"""Safetensors files array by array: reading one without mapping the file, writing one without holding them all.

The format (github.com/huggingface/safetensors): 8 bytes little-endian length, that many bytes of JSON
{name: {dtype, shape, data_offsets}}, then the values, C order. The library writes whole files from memory alone, which
a model larger than memory has no use for.
"""

import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from flanx.errors import UserError
from flanx.interop import json_text
from flanx.interop.source import ArrayInfo, PlainBytes, StoredArray

_LONGEST_HEADER = 100_000_000  # the library's own limit


@functools.cache
def _dtypes() -> dict[str, np.dtype]:
    import ml_dtypes

    return {
        "F64": np.dtype(np.float64),
        "F32": np.dtype(np.float32),
        "F16": np.dtype(np.float16),
        "BF16": np.dtype(ml_dtypes.bfloat16),
        "I64": np.dtype(np.int64),
        "I32": np.dtype(np.int32),
    }


def read(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file; only its header is read now.

    Raises:
      UserError: no such file, not a safetensors file, shorter than its header says, arrays that overlap or
        leave gaps, or a dtype that numpy has not.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: the checkpoint is not whole, fetch that file too")
    header, start = _header(path)
    size = path.stat().st_size - start
    arrays, places = {}, []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype = _dtypes()[entry["dtype"]]
            shape = tuple(json_text.count(n) for n in entry["shape"])
            begin, end = (json_text.count(n) for n in entry["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"array '{name}' in {path} is of a kind that flanx does not read ({str(entry)[:200]}): save it as F32 "
                "or BF16"
            ) from error
        info = ArrayInfo(shape, dtype)
        if end - begin != info.nbytes:
            raise UserError(
                f"array '{name}' in {path} has {end - begin} bytes for shape {shape} {dtype}: the file is damaged, "
                "fetch it again"
            )
        if end > size:
            raise UserError(
                f"array '{name}' in {path} ends at byte {start + end} and the file has {start + size}: it is "
                "truncated, fetch it again"
            )
        places.append((begin, end, name))
        read_it = functools.partial(_read_array, path, start + begin, info)
        arrays[name] = StoredArray(info, str(path), read_it, PlainBytes(path, start + begin))
    _check_tiled(path, places, size)
    return arrays


def _check_tiled(path: Path, places: list[tuple[int, int, str]], size: int) -> None:
    """Arrays must lie one after the other, from the first byte to the last, as the format demands."""
    last = 0
    for begin, end, name in sorted(places):
        if begin != last:
            fault = "overlaps the one before it" if begin < last else "leaves a gap before it"
            raise UserError(
                f"array '{name}' in {path} {fault} (it begins at byte {begin} of the values, not {last}): the file is "
                "damaged, fetch it again"
            )
        last = end
    if last != size:
        raise UserError(
            f"{path} has {size - last} bytes after its last array, which its header does not tell of: the file is "
            "damaged, fetch it again"
        )


def header_bytes(arrays: Mapping[str, ArrayInfo]) -> bytes:
    """What precedes the values of these arrays, which must follow in the same order, without gaps."""
    names = {dtype: name for name, dtype in _dtypes().items()}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, info in arrays.items():
        end = offset + info.nbytes
        header[name] = {
            "dtype": names[info.dtype],
            "shape": list(info.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values start at a multiple of 8, as the library has it
    return len(text).to_bytes(8, "little") + text


def _header(path: Path) -> tuple[dict[str, dict], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            if not 2 <= length <= _LONGEST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            content = file.read(length)
            if len(content) < length:
                raise ValueError("it ends inside the header")
            header = json_text.parse(content)
            if not isinstance(header, dict) or content[:1] != b"{":
                raise ValueError("its header is no JSON object")
            return header, 8 + length
        except ValueError as error:
            raise UserError(
                f"{path} is no whole safetensors file ({error}): fetch it again"
            ) from error


def _read_array(path: Path, begin: int, info: ArrayInfo) -> np.ndarray:
    values = np.empty(math.prod(info.shape), info.dtype)
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        place = values.view(np.uint8).data
        while len(place):
            count = file.readinto(place)
            if not count:
                raise UserError(f"{path} became shorter while it was read: fetch it again")
            place = place[count:]
    return values.reshape(info.shape)
