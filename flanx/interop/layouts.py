"""Which slice of which stored array each of flanx's parameters and optimizer slots is.

flanx's own names are T5X's unscanned ones. Stacked layers come in two forms: flanx's (encoder/layers/..., layers on
axis 0) and T5X's (encoder/encoder/..., layers on axis 1, a position bias per layer). T5X's scanned network
(`t5x/examples/scalable_t5`) keeps heads and their width apart: query, key and value are (embed, layers, heads, width),
out is (heads, layers, width, embed); three axes, as flanx once wrote them, are read too. Its position biases become
the stack's one where no layer's differs, and the layers' own otherwise.

Adafactor's factored slots, of a parameter (A, B): `v_row` lacks the larger axis, as T5X's and optax's rule for plain
matrices has it. T5X's scanned form follows its logical rules instead, where `v_row` always keeps the axis "embed"; the
two slots change places where that is another. (Their product does not change: both have the same mean.)
"""

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from flanx.errors import UserError
from flanx.interop.source import SLOTS, StoredArray, View

_FLANX_STACK = re.compile(r"(encoder|decoder)/layers/(.+)")
_T5X_STACK = re.compile(r"(encoder|decoder)/\1/(.+)")
_STACKS = ((_FLANX_STACK, 0), (_T5X_STACK, 1))  # and the axis of the layers
_KERNEL = re.compile(r"attention/(query|key|value|out)/kernel$")
_BIAS = "relpos_bias/rel_embedding"


def param_views(stored: Mapping[str, StoredArray], prefix: str = "") -> dict[str, View]:
    """flanx's name -> view, for arrays named `prefix` + T5X's or flanx's name, stacked or not.

    Raises:
      UserError: arrays of one stack differ in its number of layers.
    """
    arrays = {n.removeprefix(prefix): a for n, a in stored.items() if n.startswith(prefix)}
    _check_stacks(arrays)
    shared = _one_bias(arrays)
    views: dict[str, View] = {}
    for name, array in arrays.items():
        for target, axis, index in _layers(name, array, shared):
            views[target] = View(prefix + name, axis, index, joined=_heads_at(name, array, axis))
    return views


def slot_views(
    params: Mapping[str, View], stored: Mapping[str, StoredArray], param_prefix: str, slot: str
) -> dict[str, View]:
    """ "<param>/<slot>" -> view, of the slots in use.

    Args:
      params: as `param_views` gave them.
      stored: arrays by the form's names.
      param_prefix: what precedes a parameter's own name in `params`' stored names.
      slot: a slot's stored name, with {param} and {slot} for parameter and slot.
    """
    views: dict[str, View] = {}
    for kind, (name, view) in itertools.product(SLOTS, params.items()):
        own = view.stored.removeprefix(param_prefix)
        whole = stored[view.stored].info.shape
        shape = view.shape(whole)
        full = slot.format(param=own, slot=_stored_slot(kind, name, shape, view.axis))
        if full in stored:
            found = _slot_view(full, stored[full].info.shape, kind, whole, shape, view)
            if found is not None:
                views[f"{name}/{kind}"] = found
    return views


def kept_axis(shape: tuple[int, ...], kind: str) -> int:
    """The axis of a matrix that `v_row` or `v_col` is a vector over (T5X `_factored_dims`, optax the same)."""
    small, large = (int(i) for i in np.argsort(shape)[-2:])
    return small if kind == "v_row" else large


def embed_axis(name: str) -> int:
    """The axis of a matrix that T5X calls "embed"."""
    return 1 if re.search(r"(/out/kernel|/wo/kernel|/embedding)$", name) else 0


def stacked_slot(kind: str, name: str, shape: tuple[int, ...]) -> str:
    """The slot of T5X's scanned form that holds what `kind` holds for one layer of `shape`."""
    if kind not in ("v_row", "v_col"):
        return kind
    return "v_row" if kept_axis(shape, kind) == embed_axis(name) else "v_col"


def _stored_slot(kind: str, name: str, shape: tuple[int, ...], axis: int | None) -> str:
    return stacked_slot(kind, name, shape) if axis == 1 and len(shape) == 2 else kind


def _slot_view(
    full: str,
    there: tuple[int, ...],
    kind: str,
    whole: tuple[int, ...],
    shape: tuple[int, ...],
    view: View,
) -> View | None:
    """The layer's part of a slot; None where the slot is a placeholder."""
    if kind in ("m", "v"):
        return replace(view, stored=full) if there == whole else None
    if len(shape) != 2:
        return None
    kept = kept_axis(shape, kind)
    if view.axis is None:
        return View(full) if there == (shape[kept],) and view.joined is None else None
    layers = whole[view.axis]
    # The vector's own axes: heads and their width where T5X has them apart.
    own: tuple[int, ...] = (shape[kept],)
    joined = None
    if view.joined == kept:
        apart = (*whole[: view.axis], *whole[view.axis + 1 :])
        own, joined = apart[kept : kept + 2], 0
    # Stacked on axis 0 the vectors are rows; on axis 1 T5X leaves out one axis of (A, layers, B).
    axis = 0 if view.axis == 0 else 1 - kept
    wanted = (*own[:axis], layers, *own[axis:])
    return View(full, axis, view.index, joined=joined) if there == wanted else None


def _layers(name: str, array: StoredArray, shared_bias: bool) -> list[tuple[str, int | None, int]]:
    """(flanx's name, axis, index) of each parameter in an array."""
    for pattern, axis in _STACKS:
        found = pattern.fullmatch(name)
        if found and len(array.info.shape) > axis:
            stack, rest = found.groups()
            if rest == _BIAS and pattern is _T5X_STACK and shared_bias:
                return [(f"{stack}/{_BIAS}", axis, 0)]
            return [(f"{stack}/layers_{i}/{rest}", axis, i) for i in range(array.info.shape[axis])]
    return [(name, None, 0)]


def _heads_at(name: str, array: StoredArray, axis: int | None) -> int | None:
    """The first of the two axes of a layer's kernel that are heads and their width; None where they are one."""
    found = _KERNEL.search(name)
    if not found or len(array.info.shape) - (axis is not None) != 3:
        return None
    return 0 if found.group(1) == "out" else 1


def _one_bias(arrays: Mapping[str, StoredArray]) -> bool:
    """Whether T5X's stacks have the same position bias in all of their layers."""
    tables = (
        array.read()
        for name, array in arrays.items()
        if _T5X_STACK.fullmatch(name) and name.endswith(_BIAS) and len(array.info.shape) == 3
    )
    return all((values == values[:, :1]).all() for values in tables)


def _check_stacks(arrays: Mapping[str, StoredArray]) -> None:
    """A number of layers that one array alone claims is damage; it could be a million."""
    depths: dict[tuple[str, int], tuple[int, str]] = {}
    for name, array in arrays.items():
        for pattern, axis in _STACKS:
            found = pattern.fullmatch(name)
            if not found or len(array.info.shape) <= axis:
                continue
            depth = array.info.shape[axis]
            first, other = depths.setdefault((found.group(1), axis), (depth, name))
            if depth != first:
                raise UserError(
                    f"array '{name}' in {array.where} has {depth:,} layers, and '{other}' {first:,}: the checkpoint "
                    "is damaged or mixed from two, copy it again"
                )
