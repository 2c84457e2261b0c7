"""Devices as a mesh with the axes replica, data and model, and where each array lies on it."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from flanx.errors import UserError, did_you_mean
from flanx.sharding.axes import NAMES, PRESETS, Rules, as_tuple
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh_shape import AXES, check_slices, mesh_shape, over_slices

REPLICATED: Rules = PRESETS["replicated"]


def rules_of(config: MeshConfig) -> Rules:
    """Where each logical axis lies: the preset's rules, with the user's over them.

    Raises:
      UserError: an unknown preset, logical axis or mesh axis; or other places for the rows of a batch, which the
        loader deals out.
    """
    if config.parameters not in PRESETS:
        raise UserError(
            f"MeshConfig.parameters: '{config.parameters}' is not one of {', '.join(PRESETS)}"
            f"{did_you_mean(config.parameters, PRESETS)}"
        )
    for name, places in config.rules.items():
        if name not in NAMES:
            raise UserError(
                f"MeshConfig.rules: no logical axis is named '{name}', only {', '.join(NAMES)}"
                f"{did_you_mean(name, NAMES)}"
            )
        chosen = as_tuple(places)
        if len(set(chosen)) < len(chosen):
            raise UserError(
                f"MeshConfig.rules: '{name}' lies on {', '.join(chosen)}: name each axis once"
            )
        for axis in chosen:
            if axis not in AXES:
                raise UserError(
                    f"MeshConfig.rules: '{name}' cannot lie on '{axis}', only on {', '.join(AXES)}"
                    f"{did_you_mean(axis, AXES)}"
                )
        if name == "batch":
            raise UserError(
                "MeshConfig.rules: 'batch' always lies on replica and data; leave it out, and set their sizes instead"
            )
    return {**PRESETS[config.parameters], **config.rules}


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh over `devices`: all of them by default, or those of a topology that is not attached.

    Raises:
      UserError: sizes that do not make up the devices, with those that would; or rules that cannot be.
    """
    rules_of(config)
    found = list(jax.devices() if devices is None else devices)
    slices = _slices(found)
    shape = mesh_shape(config, len(found), len(slices))
    if found[0].platform == "tpu":
        check_slices(shape, len(slices))
    return Mesh(arranged(slices, shape), AXES, axis_types=(AxisType.Auto,) * 3)


def arranged(slices: Sequence[Sequence[Any]], shape: tuple[int, int, int]) -> np.ndarray:
    """Devices as an array of `shape`: slices along replica first, and inside a slice so that neighbours on the model
    axis, then on the data axis, are neighbours in the network.

    Args:
      slices: devices that fast links join, all lists of one length (TPU slices; nodes or NVLink domains of GPUs).
      shape: replica, data, model; where model reaches over slices, devices go in their order.
    """
    outer = over_slices(shape, len(slices))
    if outer is None:
        ordered = np.empty(len(slices) * len(slices[0]), object)
        ordered[:] = [device for devices in slices for device in devices]
        return ordered.reshape(shape)
    inner = (shape[0] // outer[0], shape[1] // outer[1], shape[2])
    grids = np.stack([_grid(inner, devices) for devices in slices])
    return grids.reshape(*outer, *inner).transpose(0, 2, 1, 3, 4).reshape(shape)


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, microbatches: int) -> None:
    """A batch must fall evenly over microbatches, and each of those over the devices that split rows.

    Raises:
      UserError: it does not; the message names the nearest batch size that would.
    """
    rows = _row_shares(mesh)
    unit = rows * microbatches
    if batch_size % unit:
        nearest = max(round(batch_size / unit), 1) * unit
        mend = f"{nearest} would"
        most = batch_size // microbatches
        if most and batch_size % microbatches == 0 and mesh.size % most == 0:
            mend += (
                f", or MeshConfig.model={mesh.size // most}, by which that many devices share a row"
            )
        raise UserError(
            f"BATCH_SIZE = {batch_size} does not split into {microbatches} microbatch(es) over {rows} "
            f"device(s) along replica and data: {mend}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same everywhere."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows spread over replica and data."""
    return NamedSharding(mesh, PartitionSpec(REPLICATED["batch"]))


def host_rows(mesh: Mesh, batch_size: int) -> tuple[tuple[int, int], ...]:
    """Rows of a global batch that this process's devices hold, as ascending (start, stop).

    Not simply an even share: where tensor parallelism spans processes, several of them hold the same rows, and on a
    torus neighbours in the network need not be neighbours in the order of processes.
    """
    return rows_of(mesh.local_devices, mesh, batch_size)


def rows_of(
    devices: Sequence[jax.Device], mesh: Mesh, batch_size: int
) -> tuple[tuple[int, int], ...]:
    """Rows of a global batch that these devices of the mesh hold, as ascending (start, stop)."""
    places = batch_sharding(mesh).devices_indices_map((batch_size,))
    parts = sorted({places[device][0].indices(batch_size)[:2] for device in devices})
    joined: list[tuple[int, int]] = []
    for start, stop in parts:
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, stop))
    return tuple(joined)


def to_device(mesh: Mesh, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This process's rows of a global batch (`host_rows`, one after the other) as sharded device arrays; returns before
    the copy is done."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(arrays, dict.fromkeys(arrays, sharding))
    shares = _row_shares(mesh)
    here = sum(stop - start for start, stop in host_rows(mesh, shares))

    def place(rows: np.ndarray) -> jax.Array:
        batch_size = rows.shape[0] * shares // here
        mine = np.concatenate([np.arange(*part) for part in host_rows(mesh, batch_size)])

        def part(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(batch_size)
            at = int(np.searchsorted(mine, start))
            return rows[at : at + stop - start]

        return jax.make_array_from_callback((batch_size, *rows.shape[1:]), sharding, part)

    return {name: place(rows) for name, rows in arrays.items()}


def to_every_device(mesh: Mesh, arrays: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """Arrays that every process has alike, whole on each device."""
    sharding = replicated(mesh)

    def place(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return {name: place(array) for name, array in arrays.items()}


def _row_shares(mesh: Mesh | AbstractMesh) -> int:
    """Parts that the rows of a batch fall into."""
    return mesh.shape["replica"] * mesh.shape["data"]


def _slices(devices: Sequence[Any]) -> list[list[Any]]:
    """Devices by slice (`slice_index` is the node, or NVLink domain, on GPUs); as one where slices are not alike."""
    groups: dict[int, list[Any]] = {}
    for device in devices:
        groups.setdefault(getattr(device, "slice_index", None) or 0, []).append(device)
    found = [groups[key] for key in sorted(groups)]
    if len({len(group) for group in found}) > 1:
        return [[device for group in found for device in group]]
    return found


def _grid(shape: tuple[int, ...], devices: Sequence[Any]) -> np.ndarray:
    """The devices of one slice: along the torus's rings on a TPU, in their order otherwise."""
    from jax.experimental import mesh_utils

    try:
        return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    except (AssertionError, NotImplementedError):  # a part of a slice that is no cuboid
        grid = np.empty(len(devices), object)
        grid[:] = devices
        return grid.reshape(shape)
