"""The settings that decide whether a step fits and how fast it is: which there are, and the same run under others."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flanx.errors import UserError
from flanx.models.t5.config import REMAT
from flanx.plan.topology import Topology
from flanx.sharding.axes import PRESETS as _PRESETS
from flanx.sharding.mesh_shape import mesh_shape, over_slices
from flanx.training.config import TrainConfig

PRESETS = tuple(_PRESETS)


def changed(
    config: TrainConfig,
    *,
    model: int | None = None,
    parameters: str | None = None,
    microbatches: int | None = None,
    remat: str | None = None,
) -> TrainConfig:
    """The run with some of its settings changed; data takes what replica and model leave."""
    mesh = config.mesh
    if model is not None:
        mesh = replace(mesh, model=model, data=-1)
    # Both are checked where they are set, against the same names as gin's.
    chosen: Any = {} if parameters is None else {"parameters": parameters}
    kept: Any = {} if remat is None else {"remat": remat}
    mesh, network = replace(mesh, **chosen), replace(config.model, **kept)
    count = config.microbatches if microbatches is None else microbatches
    return replace(config, mesh=mesh, model=network, microbatches=count)


def splits(config: TrainConfig, where: Topology, *, whole: bool = True) -> bool:
    """Whether the mesh makes up the devices and the batch falls evenly over it; with `whole`, heads over `model` too.

    What does not divide by `model` is computed by every device of it alike: right, and a waste.
    """
    try:
        shape = replica, data, model = mesh_shape(config.mesh, where.devices, where.slices)
    except UserError:
        return False
    if where.chip.platform == "tpu" and over_slices(shape, where.slices) is None:
        return False
    if config.batch_size % (replica * data * config.microbatches):
        return False
    return not whole or config.model.divides_over(model)


def split_over(config: TrainConfig, where: Topology) -> tuple[TrainConfig, str]:
    """The run, with as much tensor parallelism as its batch needs to fall over so many devices, and a word on it.

    A mesh that makes up the devices and splits the batch is left as it is; so is one that no `model` mends, for whose
    faults `flanx.sharding.mesh` has words.
    """
    if splits(config, where, whole=False):
        return config, ""
    replica, data, model = mesh_shape(config.mesh, where.devices, where.slices)
    for whole, factor in itertools.product((True, False), (2, 4, 8, 16, 32, 64, 128)):
        other = changed(config, model=model * factor)
        if splits(other, where, whole=whole):
            return other, (
                f"BATCH_SIZE = {config.batch_size} does not split over replica x data = {replica * data}: planned "
                f"with {in_words(other, config)}, which flanx train must be told as well"
            )
    return config, ""


def every(config: TrainConfig, where: Topology) -> Iterator[TrainConfig]:
    """All settings worth a look: tensor parallelism by powers of two, presets, microbatches, remat policies.

    Heads are cut through only where no mesh keeps them whole.
    """
    for whole in (True, False):
        found = False
        for model, parameters, microbatches in itertools.product(
            _powers(where.per_slice), PRESETS, _powers(config.batch_size)
        ):
            other = changed(config, model=model, parameters=parameters, microbatches=microbatches)
            if splits(other, where, whole=whole):
                found = True
                yield from (changed(other, remat=remat) for remat in REMAT)
        if found:
            return


def in_words(config: TrainConfig, before: TrainConfig) -> str:
    """What differs from `before`, as gin would say it."""
    words = []
    if config.mesh.parameters != before.mesh.parameters:
        words.append(f'MeshConfig.parameters = "{config.mesh.parameters}"')
    for axis in ("data", "model"):
        if (size := getattr(config.mesh, axis)) != getattr(before.mesh, axis):
            words.append(f"MeshConfig.{axis} = {size}")
    if config.microbatches != before.microbatches:
        words.append(f"TrainConfig.microbatches = {config.microbatches}")
    if config.model.remat != before.model.remat:
        words.append(f'T5Config.remat = "{config.model.remat}"')
    return " and ".join(words)


def _powers(most: int) -> list[int]:
    return [2**n for n in range(most.bit_length()) if 2**n <= most]
