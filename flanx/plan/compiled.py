"""The run's own train step, compiled by XLA for a TPU slice that is not there, and what the compiler says of it."""

import re
import time
from typing import Any

import jax

from flanx.errors import UserError
from flanx.plan import hlo_cost, hlo_text, topology
from flanx.plan.facts import Buffer, Facts, Memory, Traffic
from flanx.plan.sizes import bytes_on_one_device
from flanx.plan.topology import Topology
from flanx.sharding.mesh import check_batch, make_mesh, rules_of
from flanx.sharding.params import undivided
from flanx.training import program
from flanx.training.config import TrainConfig

_UNITS = {"B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_LARGEST = 8


def compile_step(config: TrainConfig, where: Topology, num_tasks: int = 1) -> Facts:
    """Compiles the step that `flanx train` would run and counts what it costs.

    Args:
      config: the run; no data, checkpoint or folder of it need exist.
      where: a TPU slice, or several.
      num_tasks: tasks of the mixture, which metrics alone depend on.

    Raises:
      UserError: no libtpu, a mesh that does not make up the devices, or a batch that does not split over them.
    """
    began = time.perf_counter()
    devices = topology.tpu_devices(where)
    mesh = make_mesh(config.mesh, devices)
    check_batch(mesh, config.batch_size, config.microbatches)
    built = program.build(config, mesh, num_tasks)
    params = bytes_on_one_device(built.state.params)
    optimizer = bytes_on_one_device((built.state.step, built.state.opt_state))
    usable = topology.usable_bytes(where.chip)
    whole = undivided(
        built.state.params, mesh, config.model.parameters().logical_axes, rules_of(config.mesh)
    )
    notes: tuple[str, ...] = (whole,) if whole else ()
    model_flops = config.model.flops_per_step(config.batch_size, config.cells)
    try:
        executable = built.step.ahead_of_time()
    except jax.errors.JaxRuntimeError as error:
        memory = out_of_memory(str(error), params, optimizer, usable)
        if memory is None:
            raise UserError(
                f"XLA could not compile the step: {str(error).splitlines()[0][:300]}"
            ) from error
        return Facts(
            where,
            dict(mesh.shape),
            memory,
            0.0,
            model_flops,
            0.0,
            {},
            True,
            time.perf_counter() - began,
            notes,
        )
    analysis = executable.memory_analysis()
    total = analysis.peak_memory_in_bytes + analysis.generated_code_size_in_bytes
    counted = hlo_cost.cost(hlo_text.parse(executable.as_text()))
    if counted.unknown_loops:
        notes += (f"{counted.unknown_loops} loop(s) of unknown length are counted once",)
    return Facts(
        topology=where,
        mesh=dict(mesh.shape),
        memory=Memory(params, optimizer, total - params - optimizer, usable),
        flops=counted.flops,
        model_flops=model_flops,
        hbm_bytes=counted.hbm_bytes,
        traffic=by_kind(counted.collectives, [_slice_of(d) for d in mesh.devices.flat]),
        compiled=True,
        seconds=time.perf_counter() - began,
        notes=notes,
    )


def by_kind(collectives: list[hlo_cost.Collective], slices: list[int]) -> dict[str, Traffic]:
    """Bytes that a device sends, by kind of collective; `slices[i]` is the slice of the mesh's device i.

    TPUs have a collective of its own for what goes between slices; other programs have groups that span some.
    """
    found: dict[str, Traffic] = {}
    for one in collectives:
        if one.slices:
            link, network = 0.0, one.moved(one.slices)
        elif one.kind == "collective-permute":
            crossing = any(slices[a] != slices[b] for a, b in one.groups)
            link, network = (0.0, one.moved(2)) if crossing else (one.moved(2), 0.0)
        else:
            members = one.members(len(slices))
            spanned = len({slices[m] for m in members})
            link, network = one.between(spanned, len(members) // spanned)
        new = Traffic(link * one.times, network * one.times, one.times)
        found[one.kind] = found.get(one.kind, Traffic()) + new
    return found


def out_of_memory(message: str, params: int, optimizer: int, usable: int) -> Memory | None:
    """What XLA's refusal says, in either of its forms, with the largest allocations; None if it is no refusal.

    Both count the state: "Used 63.80G of 30.75G hbm", and "the total memory required for HLO temporaries (120.00G)
    exceeds available HBM (30.75G)".
    """
    used = re.search(r"Used ([\d.]+)([BKMGT]) of ([\d.]+)([BKMGT]) hbm", message)
    temporary = re.search(
        r"required for HLO temporaries \(([\d.]+)([BKMGT])\) exceeds available HBM \(([\d.]+)([BKMGT])\)",
        message,
    )
    said = used or temporary
    if said is None:
        return None
    total = _size(said[1], said[2])
    activations = max(total - params - optimizer, 0)
    limit = min(usable, _size(said[3], said[4]))
    return Memory(params, optimizer, activations, limit, tuple(_allocations(message)[:_LARGEST]))


def _allocations(message: str) -> list[Buffer]:
    """The numbered list of a refusal: size, shape and what it is for."""
    found = []
    for entry in re.split(r"\n\s+\d+\. Size: ", message)[1:]:
        size = re.match(r"([\d.]+)([BKMGT])", entry)
        shape = re.search(r"Shape: (\w+\[[\d,]*\])", entry)
        operator = re.search(r'op_name="([^"]*)"', entry)
        kind = re.search(r"Allocation type: (.+)", entry)
        if size and shape:
            what = operator[1] if operator else (kind[1].strip() if kind else "")
            found.append(Buffer(_size(size[1], size[2]), shape[1], what))
    return found


def _size(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def _slice_of(device: Any) -> int:
    return getattr(device, "slice_index", None) or 0
