"""A run's first parameters and optimizer state from a checkpoint of any form, array by array onto the devices.

A `flanx.interop.Source` names its arrays as single layers, whatever it stores; here each array of the model, which may
stack them, is put together from those, cast to float32, and laid out as the run wants it before the next one is read.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flanx.errors import UserError
from flanx.interop.source import Source
from flanx.models.config import ModelConfig
from flanx.sharding.trees import path_names
from flanx.training import run_info
from flanx.training.assignment import PARTS, Rules, assign, folded
from flanx.training.optimizer import AdafactorState
from flanx.training.params_io import find_params

Names = tuple[str, ...]  # path of an array in a tree
Fresh = Callable[[frozenset[Names]], dict[Names, jax.Array]]

STACK = "layers"  # the module whose parameters a scanned model stacks, along their first axis
SLOTS = ("v_row", "v_col", "v", "m")
# What a run may set as it likes: no stored array depends on it.
CHANGEABLE = (*run_info.CHANGEABLE, "scan_layers")


@dataclass(frozen=True)
class Leaf:
    """One array of a model's tree, and the single layers' arrays that it is made of.

    Attributes:
      path: of the array in the tree.
      shape: of the whole array.
      sharding: where it goes; None for the default device.
      pieces: name -> shape; more than one where layers are stacked.
    """

    path: Names
    shape: tuple[int, ...]
    sharding: Any
    pieces: Mapping[str, tuple[int, ...]]

    @property
    def stacked(self) -> bool:
        return STACK in self.path


def open_initial(path: str) -> Source:
    """Opens INITIAL_CHECKPOINT_PATH: whatever `find_params` finds, or a T5X checkpoint in a `gs://` bucket.

    Raises:
      UserError: no checkpoint there, or one that is not whole.
    """
    from flanx.interop import open_checkpoint

    return open_checkpoint(path if path.startswith("gs://") else str(find_params(path)))


def leaves_of(tree: Any) -> list[Leaf]:
    """The arrays (or `jax.ShapeDtypeStruct`s) of a parameter tree."""
    found = []
    for keys, leaf in jax.tree.leaves_with_path(tree):
        path, shape = path_names(keys), tuple(leaf.shape)
        if STACK in path:
            at = path.index(STACK)
            pieces = {
                "/".join((*path[:at], f"{STACK}_{i}", *path[at + 1 :])): shape[1:]
                for i in range(shape[0])
            }
        else:
            pieces = {"/".join(path): shape}
        found.append(Leaf(path, shape, getattr(leaf, "sharding", None), pieces))
    return found


def check_model(source: Source, config: ModelConfig, rules: Rules = (), mend: str = PARTS) -> None:
    """Refuses a checkpoint that cannot become this network; reads no array and traces nothing.

    Args:
      source: the checkpoint.
      config: the network.
      rules: see `flanx.training.assignment`; `mend` as well.

    Raises:
      UserError: naming all arrays that do not fit, or settings that differ and leave no trace in arrays.
    """
    differ = _differences(source, config)
    if differ:
        mend = f"MODEL differs in {', '.join(differ.values())}. {mend}"
    assign(config.parameters().shapes(), _stored(source.params), rules, str(source.path), mend)
    odd = [told for name, told in differ.items() if name in config.silent]
    if odd:
        raise UserError(
            f"{source.path} is of another network ({', '.join(odd)}): set "
            f"{type(config).__name__}.{odd[0].split()[0]} to the checkpoint's"
        )


def _differences(source: Source, config: ModelConfig) -> dict[str, str]:
    """Settings of the network that the checkpoint tells, and that are others here: name -> both, in words."""
    if source.config is None:
        return {}
    if source.config.family != config.family:
        raise UserError(
            f"{source.path} is of the family '{source.config.family}' and MODEL of '{config.family}': give one of its "
            'own, include "models/..." of the checkpoint\'s family'
        )
    theirs, ours = source.config.to_dict(), config.to_dict()
    return {
        name: f"{name} {_said(theirs[name])} there and {_said(ours[name])} here"
        for name in theirs
        if name not in (*CHANGEABLE, *source.assumed) and theirs[name] != ours[name]
    }


def restore_params(
    source: Source,
    abstract: Any,
    *,
    rules: Rules = (),
    fresh: Fresh | None = None,
    nonfinite: Callable[[str], None] | None = None,
) -> Any:
    """Float32 parameters laid out as `abstract` says.

    Args:
      source: the checkpoint.
      abstract: nested dict of `jax.ShapeDtypeStruct`, with or without shardings.
      rules: see `flanx.training.assignment`.
      fresh: makes those arrays at the given paths that rules leave at their initial values.
      nonfinite: called with the name of each stored array that holds a NaN or an infinity.

    Raises:
      UserError: arrays that do not fit, all of them named, before any is read.
    """
    leaves = leaves_of(abstract)
    sources = assign(_shapes(leaves), _stored(source.params), rules, str(source.path))

    def read(name: str) -> np.ndarray:
        values = source.read(name)
        if nonfinite is not None:
            values = np.asarray(values, np.float32)
            if not _is_finite(values):
                nonfinite(name)
        return values

    arrays = _load(leaves, sources, read, list(source.params), fresh)
    return _tree(abstract, leaves, arrays)


def _is_finite(values: np.ndarray) -> bool:
    """Whether float32 values hold neither a NaN nor an infinity.

    Their product with themselves is one pass at the speed of memory; only where it overflows are they looked at.
    """
    flat = values.ravel(order="K")
    with np.errstate(all="ignore"):
        product = np.dot(flat, flat)
    return bool(np.isfinite(product)) or bool(np.isfinite(values).all())


def check_optimizer(source: Source, restore: str) -> None:
    """Whether a checkpoint has what `TrainConfig.restore_optimizer` asks for.

    Raises:
      UserError: it holds no state, or "state" wants its step and it does not say.
    """
    if restore == "none":
        return
    if not source.optimizer:
        raise UserError(
            f"RESTORE_OPTIMIZER: {source.path} holds no state of Adafactor: set RESTORE_OPTIMIZER = 'none'"
        )
    if restore == "state" and source.optimizer_step is None:
        raise UserError(
            f"RESTORE_OPTIMIZER: {source.path} does not say its step: set RESTORE_OPTIMIZER = 'state_with_step_reset'"
        )


def restore_optimizer(
    source: Source, abstract: Any, params: Any, *, restore: str, rules: Rules = ()
) -> AdafactorState:
    """Adafactor's state; the slots of a parameter come from where the parameter does, zeros where it is fresh.

    Args:
      source: the checkpoint.
      abstract: the run's optimizer state as `jax.ShapeDtypeStruct`s with shardings.
      params: the parameters' abstract tree.
      restore: "state" to go on counting from the step that the state is of, "state_with_step_reset" to count from 0.
      rules: those the parameters are restored by.

    Raises:
      UserError: the run's optimizer is not Adafactor, the checkpoint has no state or no step, or slots do not fit.
    """
    if not isinstance(abstract, AdafactorState):
        raise UserError(
            "RESTORE_OPTIMIZER: state can be taken over by Adafactor alone, and OPTIMIZER is another: set "
            "RESTORE_OPTIMIZER = 'none'"
        )
    check_optimizer(source, restore)
    leaves = leaves_of(params)
    sources = assign(_shapes(leaves), _stored(source.params), rules, str(source.path))
    slots = {name: getattr(abstract, name) for name in SLOTS}
    by_slot = {name: leaves_of(tree) for name, tree in slots.items() if tree is not None}
    _check_slots(by_slot, sources, source, kept=slots["m"] is not None)
    made = {}
    for name, found in by_slot.items():
        wanted = {
            piece: f"{sources[piece]}/{name}"
            if sources[piece] is not None and _used(shape)
            else None
            for leaf in found
            for piece, shape in leaf.pieces.items()
        }
        arrays = _load(found, wanted, source.read_optimizer, list(source.optimizer), None)
        made[name] = _tree(slots[name], found, arrays)
    step = source.optimizer_step if restore == "state" else 0
    count = _place(np.asarray(step, np.int32), (), abstract.count.sharding)
    return AdafactorState(count=count, **{name: made.get(name) for name in SLOTS})


def restored_text(source: Source, restore: str) -> str:
    """One line on what `RESTORE_OPTIMIZER` does with this checkpoint."""
    if restore == "state":
        return (
            f"optimizer: state of {source.path}, going on from its step {source.optimizer_step:,}: second moments "
            "change by what Adafactor's decay gives at that step, and the schedule goes on from there"
        )
    return (
        f"optimizer: state of {source.path}, counted from step 0: Adafactor's decay is 0 in the first step, so that "
        "second moments are those of the new gradients; only a first moment (beta1) lives on"
    )


def _check_slots(
    by_slot: Mapping[str, Sequence[Leaf]],
    sources: Mapping[str, str | None],
    source: Source,
    *,
    kept: bool,
) -> None:
    """Every slot that is used must be there with its shape, and nothing that would be lost."""
    wanted = {
        f"{sources[piece]}/{slot}": shape
        for slot, leaves in by_slot.items()
        for leaf in leaves
        for piece, shape in leaf.pieces.items()
        if sources[piece] is not None and _used(shape)
    }
    read = {stored for stored in sources.values() if stored is not None}
    there = {
        name: shape
        for name, shape in _stored(source.optimizer).items()
        if _used(shape) and name.rpartition("/")[0] in read
    }
    odd = sorted({name for name, _ in wanted.items() ^ there.items()})
    if odd:
        hint = "" if kept else ", or beta1 (a first moment is kept where it is set)"
        told = ", ".join(
            folded(
                f"{n} {there.get(n, 'missing')} there and {wanted.get(n, 'none')} here" for n in odd
            )
        )
        raise UserError(
            f"RESTORE_OPTIMIZER: {len(odd):,} slots in {source.path} do not fit this run's Adafactor: {told}. Set its "
            f"factored and min_dim_size_to_factor{hint} to the checkpoint's, or RESTORE_OPTIMIZER = 'none'"
        )


def _load(
    leaves: Sequence[Leaf],
    sources: Mapping[str, str | None],
    read: Callable[[str], np.ndarray],
    order: Sequence[str],
    fresh: Fresh | None,
) -> dict[Names, jax.Array]:
    """Every leaf; without `fresh`, what has no source is zeros. Reads in the checkpoint's own order."""
    place = {name: number for number, name in enumerate(order)}

    def first(leaf: Leaf) -> int:
        return min((place[s] for n in leaf.pieces if (s := sources[n]) is not None), default=-1)

    kept = frozenset(x.path for x in leaves if any(sources[n] is None for n in x.pieces))
    made = fresh(kept) if fresh is not None and kept else {}
    arrays = {}
    for leaf in sorted(leaves, key=first):
        names = [sources[name] for name in leaf.pieces]
        if not any(names) and leaf.path in made:
            arrays[leaf.path] = made[leaf.path]
            continue
        if leaf.stacked:
            values = np.zeros(leaf.shape, np.float32)
            for layer, name in enumerate(names):
                if name is not None:
                    values[layer] = read(name)
        elif names[0] is None:
            values = np.zeros(leaf.shape, np.float32)
        else:
            values = np.asarray(read(names[0]), np.float32)
        array = _place(values, leaf.shape, leaf.sharding)
        if leaf.path in made and not all(names):
            array = _merged(made[leaf.path], array, [name is not None for name in names])
        arrays[leaf.path] = array
    return arrays


def _place(values: np.ndarray, shape: tuple[int, ...], sharding: Any) -> jax.Array:
    """On the devices that hold it, each its own part alone."""
    if sharding is None:
        return jnp.asarray(values)
    return jax.make_array_from_callback(shape, sharding, lambda index: values[index])


def _merged(fresh: jax.Array, stored: jax.Array, from_stored: Sequence[bool]) -> jax.Array:
    """A stack whose layers come from one or the other."""

    def merge(fresh: jax.Array, stored: jax.Array) -> jax.Array:
        mask = np.asarray(from_stored).reshape((-1,) + (1,) * (stored.ndim - 1))
        return jnp.where(mask, stored, fresh)

    return jax.jit(merge, out_shardings=stored.sharding)(fresh, stored)


def _tree(like: Any, leaves: Iterable[Leaf], arrays: Mapping[Names, jax.Array]) -> Any:
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[leaf.path] for leaf in leaves])


def _shapes(leaves: Iterable[Leaf]) -> dict[str, tuple[int, ...]]:
    return {name: shape for leaf in leaves for name, shape in leaf.pieces.items()}


def _stored(infos: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(info.shape) for name, info in infos.items()}


def _used(shape: tuple[int, ...]) -> bool:
    """Adafactor keeps an array of one zero where a slot is not in use."""
    return shape != (1,)


def _said(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
