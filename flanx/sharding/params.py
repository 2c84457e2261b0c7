"""Where a model's parameters lie on a mesh."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding

from flanx.sharding.axes import Rules, as_tuple, fitting, partition_spec
from flanx.sharding.constraints import AxesOf, param_spec
from flanx.sharding.mesh import REPLICATED
from flanx.sharding.trees import path_names


def param_shardings(params: Any, mesh: Mesh, axes_of: AxesOf, rules: Rules = REPLICATED) -> Any:
    """A NamedSharding for every parameter (arrays or `jax.ShapeDtypeStruct`s), in the same tree."""

    def of_param(path: Any, leaf: Any) -> NamedSharding:
        return NamedSharding(mesh, param_spec(path, leaf.shape, rules, mesh, axes_of))

    return jax.tree_util.tree_map_with_path(of_param, params)


def undivided(params: Any, mesh: Mesh, axes_of: AxesOf, rules: Rules) -> str | None:
    """A line for the user on parameters that the rules would spread, and that a mesh axis does not divide.

    Args:
      params: `jax.ShapeDtypeStruct`s.
      mesh: the devices.
      axes_of: names of a parameter's axes.
      rules: where axes should lie.

    Returns:
      None where it is less than a tenth of the model.
    """
    lost: dict[tuple[str, str, int], int] = {}
    total = 0
    for path, leaf in jax.tree.leaves_with_path(params):
        total += leaf.size
        axes = axes_of("/".join(path_names(path)), leaf.ndim)
        wanted = partition_spec(axes, rules, mesh)
        found = fitting(wanted, leaf.shape, mesh)
        for name, size, want, have in zip(axes, leaf.shape, wanted, found, strict=True):
            for axis in set(as_tuple(want)) - set(as_tuple(have)):
                lost[axis, name, size] = lost.get((axis, name, size), 0) + leaf.size
    if not lost or max(lost.values()) < total / 10:
        return None
    (axis, name, size), elements = max(lost.items(), key=lambda item: item[1])
    return (
        f"MeshConfig: {axis}={mesh.shape[axis]} does not divide the model's {name} ({size}), so that "
        f"{elements / total:.0%} of the parameters lie whole along it; a divisor of {size} spreads them"
    )
