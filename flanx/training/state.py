"""What a step reads and writes, and how it is laid out over a mesh."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flanx.sharding.axes import Rules
from flanx.sharding.constraints import AxesOf
from flanx.sharding.mesh import REPLICATED, replicated
from flanx.sharding.params import param_shardings
from flanx.sharding.trees import path_names


class TrainState(NamedTuple):
    """Everything a training step changes.

    `step` is an int32 scalar, the number of steps taken; `params` a nested dict of float32 arrays with T5X's names;
    `opt_state` the optimizer's.
    """

    step: jax.Array
    params: Any
    opt_state: Any


def new_state(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def state_shardings(
    abstract: TrainState, mesh: Mesh, axes_of: AxesOf, rules: Rules = REPLICATED
) -> TrainState:
    """A `TrainState` of shardings.

    An optimizer slot of a parameter's shape lies as the parameter does, Adafactor's rows and columns as the axes that
    they keep of it; counters are on every device.
    """
    params = param_shardings(abstract.params, mesh, axes_of, rules)
    places = {
        path_names(path): (leaf.shape, sharding.spec)
        for (path, leaf), sharding in zip(
            jax.tree.leaves_with_path(abstract.params), jax.tree.leaves(params), strict=True
        )
    }

    def of_slot(path: Any, leaf: Any) -> NamedSharding:
        names = path_names(path)
        for start in range(1, len(names)):
            if names[start:] in places:
                spec = _slot_spec(names[start - 1], leaf.shape, *places[names[start:]])
                return NamedSharding(mesh, spec)
        return replicated(mesh)

    slots = jax.tree_util.tree_map_with_path(of_slot, abstract.opt_state)
    step: Any = replicated(mesh)
    return TrainState(step, params, slots)


def _slot_spec(
    kind: str, slot: tuple[int, ...], shape: tuple[int, ...], spec: PartitionSpec
) -> PartitionSpec:
    """Where a slot of a parameter lies.

    `v_row` lacks the larger of the two factored axes and `v_col` the smaller, of a square matrix the last and the first
    (T5X's and optax's rule); an array of one zero stands for a slot that is not in use.
    """
    if slot == shape:
        return spec
    gone = [axis for axis in range(len(shape)) if shape[:axis] + shape[axis + 1 :] == slot]
    if not gone:
        return PartitionSpec()
    axis = gone[0] if kind == "v_col" else gone[-1]
    return PartitionSpec(*spec[:axis], *spec[axis + 1 :])
