"""Every layout of the mesh computes what one device computes, in the way it should, from parameters never whole."""

import dataclasses
import math
import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flanx.models.t5.config import T5Config
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import make_mesh, to_device
from flanx.sharding.trees import path_names
from flanx.training import program as programs
from flanx.training import xla_flags
from flanx.training.checkpoint import Checkpoints
from flanx.training.config import CheckpointConfig, DataConfig, TrainConfig
from flanx.training.optimizer import Adafactor

# No two sizes are alike, so that a shape in a compiled program tells what it is of.
ROWS, INPUTS, TARGETS, TASKS = 32, 14, 10, 3
MODEL = T5Config(
    emb_dim=24,
    num_heads=4,
    head_dim=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=48,
    vocab_size=144,
    dropout_rate=0.0,
    dtype="float32",
)
PRESETS = {
    "data_parallel": MeshConfig(),
    "fully_sharded": MeshConfig(parameters="fully_sharded"),
    "tensor_parallel": MeshConfig(model=4),
    "fully_sharded_tensor_parallel": MeshConfig(model=2, parameters="fully_sharded"),
    "all_three_axes": MeshConfig(replica=2, data=2, model=2, parameters="fully_sharded"),
}
FACTORED = Adafactor(min_dim_size_to_factor=16)
# Tiny programs are compiled many times here: a third of the time without XLA's own optimisations for speed.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
# Sums of at most 32 x 14 terms run in another order. An addition rounds by 2^-24 of the partial sum, errors of n random
# terms add up as sqrt(n), 21 here, and gradients pass through a dozen such sums one after the other: some 2^-16 of the
# largest number of an array.
ROUNDING = 2.0**-16


@dataclasses.dataclass(frozen=True)
class KeepGradients:
    """An optimizer that changes nothing; its state is the gradient."""

    def build(self, schedule, stack_axis=None):
        del schedule, stack_axis

        def zeros(tree):
            return jax.tree.map(jnp.zeros_like, tree)

        return optax.GradientTransformation(
            lambda params: {"gradient": zeros(params)},
            lambda grads, state, params: (zeros(grads), {"gradient": grads}),
        )


def build(layout, *, devices=8, microbatches=1, rows=ROWS, model=MODEL, optimizer=None):
    config = TrainConfig(
        model_dir="unused",
        model=model,
        data=DataConfig("toy", {"inputs": INPUTS, "targets": TARGETS}, "unused"),
        train_steps=1,
        batch_size=rows,
        microbatches=microbatches,
        optimizer=optimizer or KeepGradients(),
        mesh=layout,
    )
    return programs.build(config, make_mesh(layout, jax.devices()[:devices]), TASKS)


def batch(rows):
    """Packed rows with padding at their ends, unequal numbers of tokens, every third row of another task."""
    rng = np.random.default_rng(rows)

    def feature(length):
        ends = rng.integers(3, length + 1, rows)[:, None]
        cuts = rng.integers(1, 3, rows)[:, None]
        at = np.arange(length)[None]
        segments = np.where(at < cuts, 1, 2) * (at < ends)
        tokens = rng.integers(2, 144, segments.shape) * (segments > 0)
        return tokens.astype(np.int32), segments.astype(np.int32)

    inputs, input_segments = feature(INPUTS)
    targets, target_segments = feature(TARGETS)
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    task = np.broadcast_to(np.arange(rows)[:, None] % TASKS, targets.shape)
    return {
        "encoder_input_tokens": inputs,
        "encoder_segment_ids": input_segments,
        "encoder_positions": np.zeros_like(inputs),
        "decoder_target_tokens": targets,
        "decoder_input_tokens": shifted,
        "decoder_segment_ids": target_segments,
        "decoder_positions": np.zeros_like(targets),
        "decoder_task_ids": task.astype(np.int32),
        "decoder_loss_weights": (targets > 0).astype(np.float32),
    }


def parameters(abstract):
    """On the host, the same for all of these shapes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: rng.normal(0, 1 / math.sqrt(x.shape[0]), x.shape).astype(np.float32), abstract
    )


def run(program, rows=ROWS):
    """Metrics and gradients of one step, and the compiled step's text."""
    compiled = program.step.ahead_of_time(QUICK)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), program.state)
    state = zeros._replace(params=parameters(program.state.params))
    state = jax.tree.map(lambda x, like: jax.device_put(x, like.sharding), state, program.state)
    arrays = to_device(program.mesh, batch(rows))
    state, sums, _ = compiled(state, program.zero_sums(), arrays, program.rng)
    gradients = {
        "/".join(path_names(path)): np.asarray(x)
        for path, x in jax.tree.leaves_with_path(state.opt_state["gradient"])
    }
    return jax.device_get(sums), gradients, compiled.as_text()


@cache
def alone(microbatches, rows=ROWS, model=MODEL):
    return run(
        build(MeshConfig(), devices=1, microbatches=microbatches, rows=rows, model=model), rows
    )


@cache
def on_eight(preset, microbatches):
    return run(build(PRESETS[preset], microbatches=microbatches))


def assert_same(got, expected):
    sums, gradients, _ = got
    expected_sums, expected_gradients, _ = expected
    for name, value in expected_sums.items():
        np.testing.assert_allclose(sums[name], value, rtol=ROUNDING, err_msg=name)
    assert gradients.keys() == expected_gradients.keys()
    for name, value in expected_gradients.items():
        bound = ROUNDING * np.abs(value).max()
        np.testing.assert_allclose(gradients[name], value, rtol=0, atol=bound, err_msg=name)


@pytest.mark.parametrize("microbatches", [1, 2, 4])
@pytest.mark.parametrize("preset", PRESETS)
def test_eight_devices_have_the_loss_and_gradients_of_one(preset, microbatches):
    assert_same(on_eight(preset, microbatches), alone(microbatches))


@pytest.mark.parametrize(
    ("devices", "layout"),
    [
        (3, MeshConfig(parameters="fully_sharded")),
        (6, MeshConfig(model=2, parameters="fully_sharded")),
    ],
)
def test_any_number_of_devices_that_divides(devices, layout):
    program = build(layout, devices=devices, rows=12)
    assert program.mesh.shape["data"] == 3
    assert_same(run(program, 12), alone(1, 12))


def test_rules_of_the_user_scanned_layers_and_dropout_change_nothing():
    """Activations spread over the model axis between the blocks, parameters over the replicas too."""
    model = dataclasses.replace(MODEL, scan_layers=True, dropout_rate=0.1)
    rules = {"width": "model", "embed": ("replica", "data")}
    program = build(MeshConfig(replica=2, model=2, rules=rules), microbatches=2, model=model)
    got = run(program)
    assert_same(got, alone(2, model=model))


def collectives(text):
    """{(operation, shape of one result)} of a compiled program."""
    found = set()
    for shapes, operation in re.findall(
        r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(",
        text,
    ):
        for shape in re.findall(r"\w+\[([\d,]*)\]", shapes):
            found.add((operation, tuple(int(n) for n in shape.split(",") if n)))
    return found


def kernels(model_size):
    """Shapes of the matrices that one of `model_size` devices works with."""
    heads, mlp, vocab = 16 // model_size, 48 // model_size, 144 // model_size
    return {(24, heads), (heads, 24), (24, mlp), (mlp, 24), (24, vocab), (vocab, 24)}


@pytest.mark.parametrize("preset", PRESETS)
def test_devices_exchange_what_the_preset_says_and_nothing_else(preset):
    """Fully sharded: kernels are gathered, and their gradients added up. Tensor parallel: activations are added up.

    Never do rows of a batch leave their device, which a gather, a transposition or a permutation would show.
    """
    layout, (_, _, text) = PRESETS[preset], on_eight(preset, 1)
    model = layout.model
    found = collectives(text)
    by_operation = {name: {shape for other, shape in found if other == name} for name, _ in found}
    sharded = layout.parameters == "fully_sharded"
    # Added up on a CPU and cut afterwards; other platforms make one reduce-scatter of that.
    summed = by_operation.pop("all-reduce") | by_operation.pop("reduce-scatter", set())
    assert by_operation == ({"all-gather": kernels(model)} if sharded else {})
    rows = ROWS * model // 8
    activations = {(rows, INPUTS, 24), (rows, TARGETS, 24)}
    assert (activations <= summed) == (model > 1)
    of_gradients = {shape for shape in summed if len(shape) == 2 and 24 in shape}
    along_replica = {tuple(n // 2 if n == 24 else n for n in shape) for shape in kernels(model)}
    assert kernels(model) - of_gradients <= (along_replica if layout.replica > 1 else set())
    assert all(math.prod(shape) < ROWS * TARGETS * 24 for shape in summed)


def test_parameters_and_optimizer_are_born_sharded():
    """The compiled initialisation has no array larger than a device's own part of the largest parameter."""
    program = build(PRESETS["all_three_axes"], optimizer=FACTORED)
    largest = max(
        math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(program.state)
    )
    assert largest == 144 * 24 // 4
    text = xla_flags.compiled(jax.jit(program.fresh_state).lower(), QUICK).as_text()
    sizes = [math.prod(map(int, x.split(","))) for x in re.findall(r"\b[a-z]\d+\[([\d,]+)\]", text)]
    assert max(sizes) == largest


def test_checkpoints_move_from_mesh_to_mesh(tmp_path):
    """Written under each layout and restored under the next, on 8, 6 and 1 devices, in the bytes in which they were."""
    both = PRESETS["fully_sharded_tensor_parallel"]
    layouts = [(PRESETS["tensor_parallel"], 8), (both, 6)]
    layouts += [(MeshConfig(), 1), (PRESETS["all_three_axes"], 8)]
    every = [
        build(layout, devices=devices, rows=12 if devices == 6 else ROWS, optimizer=FACTORED)
        for layout, devices in layouts
    ]
    rng = np.random.default_rng(1)
    wanted = jax.tree.map(lambda x: (rng.normal(size=x.shape) * 9).astype(x.dtype), every[0].state)
    for number, (program, other) in enumerate(zip(every, [*every[1:], every[0]], strict=True)):
        told = []
        folder = tmp_path / str(number)
        checkpoints = Checkpoints(folder, CheckpointConfig(keep=None), {}, told.append)
        state = jax.tree.map(lambda x, at: jax.device_put(x, at.sharding), wanted, program.state)
        checkpoints.save(state, program.zero_sums(), {}, None, step=1)
        checkpoints.poll(1, wait=True)
        found = checkpoints.restore_newest(other.state, other.sums)
        for mine, theirs, like in zip(
            *map(jax.tree.leaves, (found.state, wanted, other.state)), strict=True
        ):
            assert mine.sharding.is_equivalent_to(like.sharding, mine.ndim)
            assert np.asarray(mine).tobytes() == theirs.tobytes()
        checkpoints.finish()
        assert told == []
