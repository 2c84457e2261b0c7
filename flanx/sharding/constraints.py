"""Where arrays lie on a mesh while a program is traced: `constrain` for activations, `constrain_params` for parameters.

A network names the axes of what it makes and knows nothing of meshes: on one device, or where nothing was `placed`, it
does not even mention them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flanx.sharding.axes import Rules, fitting, partition_spec

AxesOf = Callable[
    [str, int], tuple[str, ...]
]  # a parameter's path and its number of axes -> their names

_placed: ContextVar[tuple[Mesh, Rules] | None] = ContextVar("placed", default=None)
_compiled_for: ContextVar[tuple[str, int] | None] = ContextVar("compiled_for", default=None)


@contextmanager
def placed(mesh: Mesh, rules: Rules) -> Iterator[None]:
    """While a function is traced inside, `constrain` places its activations on `mesh`.

    To be entered inside the function that is jitted: a compiled program then belongs to its mesh, whoever calls it.
    """
    token = _placed.set((mesh, rules) if mesh.size > 1 else None)
    with compiled_for(mesh.devices.flat[0].platform, mesh.size):
        try:
            yield
        finally:
            _placed.reset(token)


@contextmanager
def compiled_for(platform: str, devices: int = 1) -> Iterator[None]:
    """While a function is traced inside, `one_cpu` and `platform` speak of these devices, not this process's."""
    token = _compiled_for.set((platform, devices))
    try:
        yield
    finally:
        _compiled_for.reset(token)


def platform() -> str | None:
    """Of the devices that what is traced now will run on ("cpu", "gpu", "tpu"); None where nothing told."""
    here = _compiled_for.get()
    return None if here is None else here[0]


def one_cpu() -> bool:
    """Whether what is traced now will run on one CPU device."""
    here = _compiled_for.get()
    return jax.default_backend() == "cpu" if here is None else here == ("cpu", 1)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """x, whose axes are of these names, laid out as the rules say; x itself where nothing is placed.

    Without such words the compiler is free to gather a batch, or to keep an activation whole on every device.

    Args:
      x: an activation.
      axes: a name of `RULES` for each axis of x; None for an axis that lies whole.
    """
    here = _placed.get()
    if here is None:
        return x
    if len(axes) != x.ndim:
        raise ValueError(f"{len(axes)} names {axes} for an array of shape {x.shape}")
    mesh, rules = here
    spec = fitting(partition_spec(axes, rules, mesh), x.shape, mesh)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def constrain_params(tree: Any, axes_of: AxesOf) -> Any:
    """A tree of the parameters' paths and shapes (gradients, say) laid out as they are, by `axes_of` (`param_spec`)."""
    here = _placed.get()
    if here is None:
        return tree
    mesh, rules = here

    def place(path: Any, x: jax.Array) -> jax.Array:
        spec = param_spec(path, x.shape, rules, mesh, axes_of)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(place, tree)


def param_spec(
    path: Any, shape: tuple[int, ...], rules: Rules, mesh: Mesh, axes_of: AxesOf
) -> PartitionSpec:
    """Mesh axes of the parameter at a JAX key path.

    Args:
      path: the key path.
      shape: of the parameter.
      rules: where logical axes lie.
      mesh: the devices.
      axes_of: the family's names of the parameter's axes (`Parameters.logical_axes`).
    """
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return fitting(partition_spec(axes_of(name, len(shape)), rules, mesh), shape, mesh)
