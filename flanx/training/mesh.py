"""Devices as a mesh with the axes replica, data and model, and where each array lies on it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from flanx.errors import UserError
from flanx.models.t5 import partition
from flanx.training.config import MeshConfig
from flanx.training.state import TrainState, path_names

AXES = ("replica", "data", "model")

# Logical axis -> mesh axes: rows over replica and data, wide parameters over model (T5X's 1-D parameters and
# activations; with model=1 that is plain data parallelism).
RULES: partition.Rules = {
    "batch": ("replica", "data"),
    "vocab": "model",
    "mlp": "model",
    "heads": "model",
    "joined_kv": "model",
}
# T5X's 2-D parameters: the axis that tensor parallelism leaves whole lies over data.
FULLY_SHARDED: partition.Rules = {**RULES, "embed": "data"}


def rules_of(config: MeshConfig) -> partition.Rules:
    """Where each logical axis lies."""
    return FULLY_SHARDED if config.fully_sharded else RULES


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices` (all of them by default); `data=-1` takes what replica and model leave.

    Raises:
      UserError: replica x data x model is not the number of devices.
    """
    found = list(jax.devices() if devices is None else devices)
    data = config.data
    if data == -1:
        data = max(len(found) // (config.replica * config.model), 1)
    shape = (config.replica, data, config.model)
    if np.prod(shape) != len(found):
        sizes = " x ".join(f"{axis}={size}" for axis, size in zip(AXES, shape, strict=True))
        raise UserError(
            f"MeshConfig: {sizes} is {np.prod(shape)} devices, and there are {len(found)}: "
            "set data=-1 to take what is left, and replica and model to divisors"
        )
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=found)


def check_batch(mesh: Mesh, batch_size: int, microbatches: int) -> None:
    """A batch must fall evenly over microbatches, and each of those over the devices that split rows.

    Raises:
      UserError: it does not; the message names the nearest batch size that would.
    """
    rows = mesh.shape["replica"] * mesh.shape["data"]
    unit = rows * microbatches
    if batch_size % unit:
        nearest = max(round(batch_size / unit), 1) * unit
        raise UserError(
            f"BATCH_SIZE = {batch_size} does not split into {microbatches} microbatch(es) over {rows} "
            f"device(s) along replica and data: {nearest} would"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same everywhere."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows spread over replica and data."""
    return NamedSharding(mesh, PartitionSpec(RULES["batch"]))


def param_shardings(params: Any, mesh: Mesh, rules: partition.Rules = RULES) -> Any:
    """A NamedSharding for every parameter (arrays or `jax.ShapeDtypeStruct`s), in the same tree."""

    def of_param(path: Any, leaf: Any) -> NamedSharding:
        axes = partition.logical_axes("/".join(path_names(path)), len(leaf.shape))
        spec = partition.partition_spec(axes, rules, mesh)
        return NamedSharding(mesh, _fitting(spec, leaf.shape, mesh))

    return jax.tree_util.tree_map_with_path(of_param, params)


def state_shardings(abstract: TrainState, mesh: Mesh, rules: partition.Rules = RULES) -> Any:
    """A `TrainState` of shardings.

    An optimizer slot of a parameter's shape lies as the parameter does; smaller ones (Adafactor's rows and columns,
    counters) are on every device.
    """
    params = param_shardings(abstract.params, mesh, rules)
    places = {
        path_names(path): (leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree.leaves_with_path(abstract.params), jax.tree.leaves(params), strict=True
        )
    }

    def of_slot(path: Any, leaf: Any) -> NamedSharding:
        names = path_names(path)
        for start in range(len(names)):
            shape, sharding = places.get(names[start:], (None, None))
            if sharding is not None and shape == leaf.shape:
                return sharding
        return replicated(mesh)

    slots = jax.tree_util.tree_map_with_path(of_slot, abstract.opt_state)
    step: Any = replicated(mesh)
    return TrainState(step, params, slots)


def to_device(mesh: Mesh, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a global batch as sharded device arrays; returns before the copy is done."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(arrays, dict.fromkeys(arrays, sharding))
    return {
        name: jax.make_array_from_process_local_data(sharding, rows)
        for name, rows in arrays.items()
    }


def to_every_device(mesh: Mesh, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Arrays that every process has alike, whole on each device."""
    sharding = replicated(mesh)

    def place(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return {name: place(array) for name, array in arrays.items()}


def _fitting(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """`spec` without the mesh axes that do not divide their dimension: such a dimension stays whole."""

    def keep(axes: Any, size: int) -> Any:
        names = (axes,) if isinstance(axes, str) else tuple(axes or ())
        parts = int(np.prod([mesh.shape[name] for name in names], dtype=np.int64))
        return axes if names and size % parts == 0 else None

    padded = tuple(spec) + (None,) * (len(shape) - len(spec))
    return PartitionSpec(*(keep(a, s) for a, s in zip(padded, shape, strict=True)))
