"""What a step reads and writes, and how it is laid out over a mesh."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


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


def with_shardings(abstract: Any, shardings: Any) -> Any:
    """A tree of `jax.ShapeDtypeStruct` that knows where each array goes."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        shardings,
    )


def path_names(path: Any) -> tuple[str, ...]:
    """A JAX key path as plain names: ("encoder", "layers_0", "mlp", "wi_0", "kernel")."""
    return tuple(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def count_parameters(params: Any) -> int:
    """Number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
