"""A step's cost by arithmetic, where no compiler for the devices is at hand: GPUs, and TPUs without libtpu.

State: exact, from shapes and shardings. Kept activations and FLOPs: exact for what JAX asks for, by tracing one
device's share (`flanx.plan.traced`). The rest are assumptions, the usual ones of fully sharded and tensor-parallel
training (Rajbhandari et al. 2020, "ZeRO"; Shoeybi et al. 2019, "Megatron-LM"):

- Gradients are made in the activations' type and cast to float32, and lie as the parameters do; with microbatches there
  are a sum and a summand, and the compiler casts the parameters once for all of them.
- The position bias of a stack is float32 [heads, length, length]; so are its gradient, and the sum of it over layers.
- Gradients travel in the activations' type, those of the embedding and of the output projection in float32.
- Fully sharded parameters are gathered layer by layer in the activations' type, once forward and once backward in each
  microbatch, and their gradients scattered once; two layers are in memory at a time.
- Tensor parallelism sums a layer's output over `model` after each attention and feed-forward block, forward, backward,
  and again where remat computes the layer again.
- HBM's bytes are those of the matrix products' operands and results, and of the state, read and written: everything
  else is taken to be fused with these.
- On GPUs in bfloat16 attention is NVIDIA's fused kernel, unless the run says "xla": its logits are never written.
- At the fullest moment one layer has its activations besides, as if nothing of it were recomputed, and their gradients.
"""

import functools
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax
from jax.sharding import AbstractMesh

from flanx.errors import UserError
from flanx.models.common import cudnn
from flanx.models.config import ModelConfig
from flanx.plan import topology, traced
from flanx.plan.facts import Buffer, Facts, Memory, Traffic
from flanx.plan.sizes import bytes_on_one_device, leaf_bytes
from flanx.plan.topology import Topology
from flanx.sharding.axes import as_tuple
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import check_batch, make_mesh, rules_of
from flanx.sharding.mesh_shape import AXES, check_slices, mesh_shape
from flanx.sharding.params import undivided
from flanx.sharding.trees import path_names, with_shardings
from flanx.training import program
from flanx.training.config import DataConfig, TrainConfig
from flanx.training.state import TrainState, state_shardings

_LARGEST = 8


def estimate(config: TrainConfig, where: Topology) -> Facts:
    """The same facts that `flanx.plan.compiled.compile_step` gets of a compiler, by arithmetic.

    Raises:
      UserError: a mesh that does not make up the devices, a batch that does not split over them, or attention by a
        kernel that does not take it.
    """
    began = time.perf_counter()
    shape = mesh_shape(config.mesh, where.devices, where.slices)
    if where.chip.platform == "tpu":
        check_slices(shape, where.slices)
    mesh = AbstractMesh(shape, AXES)
    check_batch(mesh, config.batch_size, config.microbatches)
    rows = config.batch_size // config.microbatches // (mesh.shape["replica"] * mesh.shape["data"])
    lengths = config.data.feature_lengths
    sizes = (lengths["inputs"], lengths["targets"])
    if set(config.model.row_lengths(lengths)) != {"encoder", "decoder"}:
        raise UserError(
            f"models of the family '{config.model.family}' are planned by compiling their step alone, for a TPU slice: "
            "give --topology one of those, without --estimate"
        )
    fused = _fused(config.model, *sizes, where.chip.platform)
    # `trace` is told apart whether attention is fused.
    share = replace(config.model.tensor_share(mesh.shape["model"]), attention="xla")
    whole = traced.trace(share, config.loss, *sizes, fused)
    one = replace(share.one_layer(), remat="none")
    layer = traced.trace(one, config.loss, *sizes, fused)

    state = _state(config, mesh)
    params = bytes_on_one_device(state.params)
    optimizer = bytes_on_one_device((state.step, state.opt_state))
    gathered = 2 * _layer_weights(share) if _is_sharded(config) else 0
    cast = params * traced.itemsize(share) // 4
    copies = 2 if config.microbatches > 1 else 1
    heads = share.num_heads * max(sizes) ** 2 * 4
    parts = {
        "gradients": copies * (params + cast),
        "position bias and its gradients, float32": 3 * heads,
        "attention's logits, float32": 0 if fused else heads * rows,
        "activations kept for the backward pass": whole.kept * rows + whole.copies,
        "activations of the layer at work": layer.kept * rows,
        "two layers' gathered parameters": gathered,
    }
    buffers = [Buffer(int(size), "", what) for what, size in parts.items() if size]
    buffers += [
        Buffer(leaf_bytes(leaf), f"{leaf.dtype}{list(leaf.shape)}", "/".join(path_names(path)))
        for path, leaf in jax.tree.leaves_with_path(state)
    ]
    largest = sorted(buffers, key=lambda b: -b.bytes)[:_LARGEST]
    products = config.microbatches * (whole.moved_once + whole.moved * rows)
    return Facts(
        topology=where,
        mesh=dict(mesh.shape),
        memory=Memory(
            params,
            optimizer,
            int(sum(parts.values())),
            topology.usable_bytes(where.chip),
            tuple(largest),
        ),
        flops=whole.flops * rows * config.microbatches,
        model_flops=config.model.flops_per_step(config.batch_size, lengths),
        hbm_bytes=products + 2 * (params + optimizer),
        traffic=_traffic(config, share, mesh, where, rows),
        compiled=False,
        seconds=time.perf_counter() - began,
        notes=tuple(_notes(config, state, mesh, where)),
    )


def _fused(model: ModelConfig, inputs: int, targets: int, platform: str) -> bool:
    """Whether attention is NVIDIA's kernel (`flanx.models.common.cudnn` has its conditions).

    Raises:
      UserError: the run asks for it where it cannot be.
    """
    if platform != "gpu":
        cudnn.check(model, (inputs, targets), platform)
        return False
    shapes = model.head_dim % 8 == 0 and model.head_dim <= 128 and not (inputs % 2 or targets % 2)
    can = shapes and model.dtype == "bfloat16"
    if model.attention == "cudnn" and not can:
        raise UserError(
            "ModelConfig.attention = 'cudnn' takes bfloat16, a head_dim that is a multiple of 8 up to 128, and even "
            "lengths: set it to 'auto', which takes XLA then"
        )
    return can and model.attention != "xla"


def _notes(config: TrainConfig, state: TrainState, mesh: Any, where: Topology) -> Iterator[str]:
    if whole := undivided(
        state.params, mesh, config.model.parameters().logical_axes, rules_of(config.mesh)
    ):
        yield whole
    if config.model.dtype == "float32" and where.chip.platform == "gpu":
        yield "activations are float32, and times are those of bfloat16, the faster by a factor of two or more"


def _state(config: TrainConfig, mesh: Any) -> TrainState:
    """Shapes of the whole state, with where they lie."""
    network = replace(config.model, scan_layers=True, attention="auto")
    schedule: Any = config.schedule  # a frozen dataclass, and so a key of a cache
    abstract = _abstract_state(network, config.optimizer, schedule)
    axes_of = config.model.parameters().logical_axes
    return with_shardings(abstract, state_shardings(abstract, mesh, axes_of, rules_of(config.mesh)))


@functools.lru_cache(maxsize=64)
def _abstract_state(network: ModelConfig, optimizer: Any, schedule: Any) -> TrainState:
    data = DataConfig(mixture="", feature_lengths={"inputs": 8, "targets": 8}, cache_dir="unused")
    config = TrainConfig(
        model_dir="unused",
        model=network,
        data=data,
        train_steps=1,
        batch_size=1,
        optimizer=optimizer,
        schedule=schedule,
    )
    return program.build(config, make_mesh(MeshConfig(), jax.devices()[:1]), 1).state


def _is_sharded(config: TrainConfig) -> bool:
    return "data" in as_tuple(rules_of(config.mesh)["embed"])


def _layer_weights(config: ModelConfig) -> int:
    """Bytes of one layer's matrices in the activations' type, of the larger kind where there are several."""
    sizes: dict[str, int] = {}
    for entry in config.parameters().entries:
        if entry.layers is not None and "embed" in entry.axes:
            sizes[entry.stack] = sizes.get(entry.stack, 0) + math.prod(entry.shape)
    return max(sizes.values()) * traced.itemsize(config)


def _traffic(
    config: TrainConfig, share: ModelConfig, mesh: Any, where: Topology, rows: int
) -> dict[str, Traffic]:
    """Bytes that a device sends, by the assumptions above."""
    replica, data, model = (mesh.shape[axis] for axis in AXES)
    count = config.microbatches
    weights, size = share.num_parameters(), traced.itemsize(share)
    entries = share.parameters().entries
    tables = sum(math.prod(entry.shape) for entry in entries if "vocab" in entry.axes)
    gradients = weights * size + tables * (4 - size)
    found: dict[str, Traffic] = {}

    def add(kind: str, payload: float, group: int, stride: int, times: int) -> None:
        """`group` devices, `stride` apart in the mesh, of which those of one slice share links."""
        if group == 1 or not payload:
            return
        inside = max(min(group, where.per_slice // stride), 1)
        spanned = group // inside
        factor = 2 if kind == "all-reduce" else 1
        link = factor * payload * (inside - 1) / inside if inside > 1 else 0.0
        network = factor * payload * (spanned - 1) / spanned / inside if spanned > 1 else 0.0
        found[kind] = found.get(kind, Traffic()) + Traffic(link * times, network * times, times)

    if _is_sharded(config):
        add("all-gather", weights * size, data, model, 2 * count)
        add("reduce-scatter", gradients, data, model, count)
        add("all-reduce", gradients / data, replica, model * data, count)
    else:
        add("all-reduce", gradients, data * replica, model, count)
    lengths = config.data.feature_lengths
    positions = share.row_lengths(lengths)
    # Products over a side that devices share are summed over them: attention's output and the feed-forward block's.
    layers = sum(
        (entry.layers or 0) * rows * positions[entry.stack.partition("/")[0]] * share.emb_dim * size
        for entry in entries
        if entry.axes in (("joined_kv", "embed"), ("mlp", "embed"))
    )
    passes = 2 if config.model.remat in ("none", "minimal") else 3
    add("all-reduce", layers, model, 1, passes * count)
    return found
