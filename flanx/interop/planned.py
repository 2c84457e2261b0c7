"""What a conversion is to write, array by array, and how each is put together from the source's."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from flanx.interop.source import ArrayInfo, PlainBytes, Source


@dataclass(frozen=True)
class Planned:
    """An array to write.

    Attributes:
      name: in the target's own naming.
      info: shape and dtype in the target.
      sources: the source's parameters or slots it is made of: one, or one a layer.
      axis: where layers are stacked; None for a single array.
      transposed: whether the target keeps the two axes the other way round.
    """

    name: str
    info: ArrayInfo
    sources: tuple[str, ...]
    axis: int | None = None
    transposed: bool = False


class Target(Protocol):
    """A form being written into a temporary folder."""

    arrays: Sequence[Planned]

    def write(self, planned: Planned, array: np.ndarray) -> None:
        """Writes one array; called by several threads, for each array once."""
        ...

    def copy(self, planned: Planned, plain: PlainBytes) -> bool:
        """Writes one array by copying bytes (those of its transpose where `plain.columns`); False if it cannot."""
        ...

    def finish(self) -> None:
        """Writes what makes the folder a checkpoint, after the last array."""
        ...


MakeTarget = Callable[[Path], Target]


def dtype_of(info: ArrayInfo, wanted: str) -> np.dtype:
    """The dtype to write: "keep" for the stored one, else the one named; integers stay."""
    import ml_dtypes

    if wanted == "keep" or info.dtype.kind in "iub":
        return info.dtype
    return np.dtype(ml_dtypes.bfloat16 if wanted == "bfloat16" else wanted)


def stacked(info: ArrayInfo, layers: int, axis: int) -> ArrayInfo:
    """Of `layers` arrays like `info`, stacked."""
    shape = (*info.shape[:axis], layers, *info.shape[axis:])
    return ArrayInfo(shape, info.dtype)


def jobs(source: Source, arrays: Sequence[Planned]) -> list[list[Planned]]:
    """Groups of arrays that come from the same stored one, which then is read once."""
    groups: dict[str, list[Planned]] = {}
    for planned in arrays:
        view = source.views[planned.sources[0]]
        key = view.stored if view.axis is not None else f"to {planned.name}"
        groups.setdefault(key, []).append(planned)
    return list(groups.values())


def cost(source: Source, job: Sequence[Planned]) -> int:
    """Bytes that a job holds at most: a stored array, and one that is made of it."""
    names = {source.views[name].stored for planned in job for name in planned.sources}
    read = max(source.stored[name].info.nbytes for name in names)
    return read + max(planned.info.nbytes for planned in job)


def run(source: Source, job: Sequence[Planned], target: Target) -> None:
    """Reads, puts together and writes the arrays of one job."""
    held: tuple[str, np.ndarray] | None = None

    def piece(name: str) -> np.ndarray:
        nonlocal held
        view = source.views[name]
        if held is None or held[0] != view.stored:
            held = None  # its memory first
            array = source.stored[view.stored].read()
            if view.axis is None:
                return view.take(array)
            held = (view.stored, array)
        return view.take(held[1])

    for planned in job:
        plain = _copyable(source, planned)
        if plain is None or not target.copy(planned, plain):
            target.write(planned, _made(planned, piece))


def _copyable(source: Source, planned: Planned) -> PlainBytes | None:
    """Bytes that are the array to be written, or its transpose, as they lie; None where values have to be handled."""
    view = source.views[planned.sources[0]]
    stored = source.stored[view.stored]
    if (
        planned.axis is not None
        or view.axis is not None
        or view.joined is not None
        or stored.plain is None
        or stored.info.dtype != planned.info.dtype
        or not _is_whole(stored.plain, stored.info.nbytes)
    ):
        return None
    turned = view.transposed != planned.transposed
    columns = len(stored.info.shape) > 1 and turned != stored.plain.columns
    return replace(stored.plain, columns=columns)


def _is_whole(plain: PlainBytes, count: int) -> bool:
    try:
        return os.path.getsize(plain.file) >= plain.offset + count
    except OSError:
        return False


def _made(planned: Planned, piece: Callable[[str], np.ndarray]) -> np.ndarray:
    if planned.axis is None:
        array = piece(planned.sources[0])
        return (array.T if planned.transposed else array).astype(planned.info.dtype, copy=False)
    whole = np.empty(planned.info.shape, planned.info.dtype)
    layers = np.moveaxis(whole, planned.axis, 0)
    for index, name in enumerate(planned.sources):
        layers[index] = piece(name).reshape(layers.shape[1:])  # T5X's stacks keep heads apart
    return whole
