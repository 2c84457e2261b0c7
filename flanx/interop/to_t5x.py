"""Writes a T5X checkpoint, `checkpoint_<step>/`: native, a msgpack file and a zarr folder for each array; or Orbax.

Which arrays lie in the msgpack file is T5X's choice: Adafactor's factored slots and placeholders do, what T5X
partitions does not. In the Orbax form each is a zarr folder under `state/`. Where the source has no optimizer state, a
fresh one is written (zeros), so that T5X can train on.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flanx.interop import layouts, orbax_write, t5x_form, t5x_message, zarr_write
from flanx.interop.planned import Planned, dtype_of, stacked
from flanx.interop.source import SLOTS, ArrayInfo, PlainBytes, Source

_LAYER = re.compile(r"(encoder|decoder)/layers_(\d+)/(.+)")
_BIAS = re.compile(r"(encoder|decoder)/relpos_bias/rel_embedding")
_KERNEL = re.compile(r"attention/(query|key|value|out)/kernel$")
_FACTOR_FROM = 128  # T5X's min_dim_size_to_factor
_COMMITTED = "commit_success.txt"  # Orbax's sign of a whole checkpoint where a rename is not atomic (buckets)


class T5xTarget:
    """A folder with `checkpoint_<step>/` in it, or that folder itself where it is so named."""

    def __init__(
        self,
        source: Source,
        folder: Path,
        final: Path,
        *,
        dtype: str = "keep",
        scanned: bool = False,
        compress: bool = False,
        orbax: bool = False,
    ):
        """Plans the arrays.

        Args:
          source: the checkpoint.
          folder: to write into.
          final: what `folder` will be called in the end.
          dtype: of parameters; slots keep theirs.
          scanned: stack layers as T5X's scanned network has them.
          compress: gzip arrays, as T5X does.
          orbax: write the Orbax form.
        """
        # T5X has one number for both, and its schedule and Adafactor's decay go by it.
        self._step = (source.optimizer_step if source.optimizer else source.step) or 0
        named = re.fullmatch(r"checkpoint_\d+", final.name)
        self._folder = folder if named else folder / f"checkpoint_{self._step}"
        self._compress, self._orbax = compress, orbax
        self._params = _plan_params(source, dtype, scanned)
        self._slots = _plan_slots(source, self._params)
        self.arrays: Sequence[Planned] = [*self._params, *self._slots]
        self._inline: dict[str, np.ndarray] = {}

    def start(self) -> None:
        """Makes the folder."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Nothing is open."""

    def write(self, planned: Planned, array: np.ndarray) -> None:
        if self._is_inline(planned):
            self._inline[planned.name] = np.array(array, order="C")
        else:
            zarr_write.write(self._array_folder(planned), array, compress=self._compress)

    def copy(self, planned: Planned, plain: PlainBytes) -> bool:
        if self._compress or self._is_inline(planned):
            return False
        return zarr_write.copy(self._array_folder(planned), planned.info, plain)

    def _is_inline(self, planned: Planned) -> bool:
        return not self._orbax and planned.name.rpartition("/")[2] in ("v_row", "v_col")

    def _array_folder(self, planned: Planned) -> Path:
        folder = self._folder / "state" if self._orbax else self._folder
        return orbax_write.array_folder(folder, planned.name)

    def finish(self) -> None:
        if self._orbax:
            self._finish_orbax()
        else:
            self._finish_native()

    def _finish_orbax(self) -> None:
        state = self._folder / "state"
        small = self._small()
        for name, array in small.items():
            zarr_write.write(orbax_write.array_folder(state, name), array)
        shapes = {planned.name: planned.info.shape for planned in self.arrays}
        shapes |= {name: array.shape for name, array in small.items()}
        orbax_write.write_tree(state, shapes.items())
        orbax_write.write_handlers(self._folder, {"state": orbax_write.PYTREE})
        for folder in (state, self._folder):
            (folder / _COMMITTED).write_text("Checkpoint commit was successful")

    def _finish_native(self) -> None:
        leaves: dict[str, Any] = self._small()
        for planned in self.arrays:
            name, info = planned.name, planned.info
            leaves[name] = self._inline.get(name)
            if leaves[name] is None:
                leaves[name] = zarr_write.spec(
                    name.replace("/", "."), info.shape, info.dtype, compress=self._compress
                )
        tree = {"version": 3, "optimizer": _nested(leaves)}
        content = t5x_message.pack(tree)
        (self._folder / t5x_form.MESSAGE).write_bytes(content)

    def _small(self) -> dict[str, np.ndarray]:
        """What the source has not: the step as T5X keeps it, and slots that are fresh or not in use."""
        planned = {array.name for array in self.arrays}
        small = {"state/step": np.asarray(self._step, np.int32)}
        for array in self._params:
            for name, shape in self._fresh_slots(array).items():
                if name not in planned:
                    small[name] = np.zeros(shape, np.float32)
        return small

    def _fresh_slots(self, planned: Planned) -> dict[str, tuple[int, ...]]:
        """Slots as T5X starts them: one zero where unused. Where the source has a state of its own, all are unused."""
        place = planned.name.replace("target/", "state/param_states/", 1)
        slots: dict[str, tuple[int, ...]] = {f"{place}/{slot}": (1,) for slot in SLOTS}
        if self._slots:
            return slots
        shape, axis = planned.info.shape, planned.axis
        layer = shape if axis is None else shape[:axis] + shape[axis + 1 :]
        # T5X factors by size, but in its scanned layers by the names of axes alone.
        factored = len(layer) > 1 and (min(layer) >= _FACTOR_FROM if axis is None else True)
        if not factored or planned.name.endswith("/rel_embedding"):
            return {**slots, f"{place}/v": shape}
        if axis is None:
            for kind in ("v_row", "v_col"):
                slots[f"{place}/{kind}"] = (layer[layouts.kept_axis(layer, kind)],)
            return slots
        # `v_row` is over the axis "embed", the last or the first, and `v_col` over all that is left.
        embed = len(shape) - 1 if layouts.embed_axis(planned.sources[0]) else 0
        slots[f"{place}/v_row"] = tuple(n for i, n in enumerate(shape) if i in (embed, axis))
        slots[f"{place}/v_col"] = tuple(n for i, n in enumerate(shape) if i != embed)
        return slots


def _plan_params(source: Source, dtype: str, scanned: bool) -> list[Planned]:
    groups: dict[str, list[str]] = {}
    for name in source.params:
        groups.setdefault(f"target/{_stored_name(name) if scanned else name}", []).append(name)
    depth = {s: _layers(source, s) for s in ("encoder", "decoder")}
    heads = _heads(source) if scanned else 1
    arrays = []
    for name, members in groups.items():
        info = source.params[members[0]]
        shape = _apart(name, info.shape, heads) if scanned else info.shape
        info = ArrayInfo(shape, dtype_of(info, dtype))
        arrays.append(_planned(name, info, _by_layer(members, depth, scanned), 1))
    return arrays


def _plan_slots(source: Source, params: Sequence[Planned]) -> list[Planned]:
    arrays = []
    for planned in params:
        place = planned.name.replace("target/", "state/param_states/", 1)
        first, stack = planned.sources[0], planned.axis
        shape = source.params[first].shape
        for kind in SLOTS:
            members = tuple(f"{name}/{kind}" for name in planned.sources)
            if not all(name in source.optimizer for name in members):
                continue
            stored, axis, info = kind, 1, source.optimizer[members[0]]
            if stack is not None:
                layer = (*planned.info.shape[:stack], *planned.info.shape[stack + 1 :])
                if kind in ("v_row", "v_col"):
                    kept = layouts.kept_axis(shape, kind)
                    stored, axis = layouts.stacked_slot(kind, first, shape), 1 - kept
                    embed = len(layer) - 1 if layouts.embed_axis(first) else 0
                    rest = (*layer[:embed], *layer[embed + 1 :])
                    layer = (layer[embed],) if stored == "v_row" else rest
                info = ArrayInfo(layer, info.dtype)
            arrays.append(_planned(f"{place}/{stored}", info, members, axis))
    return arrays


def _apart(name: str, shape: tuple[int, ...], heads: int) -> tuple[int, ...]:
    """A layer's shape in T5X's scanned network, which keeps heads and their width apart."""
    found = _KERNEL.search(name)
    if not found:
        return shape
    if found.group(1) == "out":
        return (heads, shape[0] // heads, shape[1])
    return (shape[0], heads, shape[1] // heads)


def _heads(source: Source) -> int:
    """Attention heads: rows of a position bias."""
    return next(a.shape[0] for name, a in source.params.items() if name.endswith("/rel_embedding"))


def _planned(name: str, info: ArrayInfo, members: tuple[str, ...], axis: int) -> Planned:
    if "/encoder/encoder/" not in name and "/decoder/decoder/" not in name:
        return Planned(name, info, members)
    return Planned(name, stacked(info, len(members), axis), members, axis)


def _stored_name(name: str) -> str:
    """T5X's scanned name of a parameter."""
    if found := _LAYER.fullmatch(name):
        return f"{found.group(1)}/{found.group(1)}/{found.group(3)}"
    if found := _BIAS.fullmatch(name):
        return f"{found.group(1)}/{name}"
    return name


def _by_layer(members: list[str], depth: dict[str, int], scanned: bool) -> tuple[str, ...]:
    """The layers' arrays in order; the one position bias stands for every layer's."""
    if scanned and (found := _BIAS.fullmatch(members[0])):
        return (members[0],) * depth[found.group(1)]
    return tuple(sorted(members, key=_number))


def _number(name: str) -> int:
    found = _LAYER.fullmatch(name)
    return int(found.group(2)) if found else 0


def _layers(source: Source, stack: str) -> int:
    found = (_LAYER.fullmatch(name) for name in source.params)
    return 1 + max((int(m.group(2)) for m in found if m and m.group(1) == stack), default=0)


def _nested(leaves: dict[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name in sorted(leaves, key=lambda name: name.split("/")):
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = leaves[name]
    return tree
