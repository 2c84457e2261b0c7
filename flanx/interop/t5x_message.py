"""The msgpack file of a T5X checkpoint: nested dicts whose leaves are arrays (flax's extension types) or specs.

flax.serialization reads and writes the same, and imports JAX for it, which takes longer than converting a small model.

Extension type 1 is an array, packed as (shape, dtype name, bytes), and 3 a numpy scalar, likewise. Arrays beyond 1 GiB
are dicts of pieces.
"""

import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import msgpack
import numpy as np

_ARRAY, _SCALAR = 1, 3
_PIECES = "__msgpack_chunked_array__"


def unpack(content: bytes) -> dict[str, Any]:
    """The tree; raises one of several errors where the file is damaged."""
    return _joined(msgpack.unpackb(content, ext_hook=_unpacked, raw=False))


def pack(tree: Mapping[str, Any]) -> bytes:
    """Of nested dicts of numbers, strings, lists and numpy arrays."""
    return msgpack.packb(tree, default=_packed, strict_types=True)


def _unpacked(kind: int, data: bytes) -> Any:
    if kind not in (_ARRAY, _SCALAR):
        return msgpack.ExtType(kind, data)
    shape, name, values = msgpack.unpackb(data, raw=True)
    dtype = np.dtype(ml_dtypes.bfloat16 if name == b"bfloat16" else name.decode())
    array = np.frombuffer(values, dtype).reshape(shape)
    return array[()] if kind == _SCALAR else array


def _packed(value: Any) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value)} has no place in a T5X checkpoint")
    data = (value.shape, value.dtype.name, value.tobytes())
    return msgpack.ExtType(_ARRAY, msgpack.packb(data, use_bin_type=True))


def _joined(tree: Any) -> Any:
    """The tree with arrays that were packed in pieces put together."""
    if not isinstance(tree, dict):
        return tree
    if _PIECES not in tree:
        return {key: _joined(value) for key, value in tree.items()}
    shape = tuple(tree["shape"][str(i)] for i in range(len(tree["shape"])))
    pieces = [tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]
    whole = np.concatenate(pieces)
    if whole.size != math.prod(shape):
        raise ValueError(f"an array of shape {shape} has {whole.size} values")
    return whole.reshape(shape)
