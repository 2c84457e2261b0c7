"""Mesh sizes and their errors, devices in the order of the network, rules, and where optimizer slots and rows lie."""

import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from flanx import models
from flanx.errors import UserError
from flanx.models.t5.config import T5Config
from flanx.sharding import axes
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import arranged, check_batch, make_mesh, rows_of, rules_of, to_device
from flanx.sharding.mesh_shape import mesh_shape
from flanx.sharding.params import param_shardings, undivided
from flanx.training.optimizer import Adafactor, AdamW
from flanx.training.schedules import Constant
from flanx.training.state import new_state, state_shardings

# Matrices that Adafactor factors: square in attention, oblong in the feed-forward block.
FACTORED = T5Config(
    emb_dim=128,
    num_heads=2,
    head_dim=64,
    num_encoder_layers=2,
    num_decoder_layers=1,
    mlp_dim=256,
    vocab_size=256,
    scan_layers=True,
)
AXES = FACTORED.parameters().logical_axes


@pytest.mark.parametrize(
    ("config", "devices", "slices", "shape"),
    [
        (MeshConfig(), 8, 1, (1, 8, 1)),
        (MeshConfig(model=2), 8, 1, (1, 4, 2)),
        (MeshConfig(), 6, 1, (1, 6, 1)),
        (MeshConfig(model=4), 64, 4, (4, 4, 4)),
        (MeshConfig(replica=1), 64, 4, (1, 64, 1)),
        (MeshConfig(data=4, model=2), 16, 1, (2, 4, 2)),
    ],
)
def test_sizes_that_are_left_open(config, devices, slices, shape):
    assert mesh_shape(config, devices, slices) == shape


@pytest.mark.parametrize(
    ("config", "devices", "message"),
    [
        (
            MeshConfig(model=3),
            8,
            "replica=1 x data=2 x model=3 is 6 devices, and there are 8: with replica=1, model can be 1, 2, 4 or 8",
        ),
        (MeshConfig(replica=1, data=4), 6, "set data=6, or data=-1 for what is left"),
        (MeshConfig(replica=4, model=3), 6, "with model=3, replica can be 1 or 2"),
        (MeshConfig(replica=5, model=5), 6, "replica x model can be 1, 2, 3 or 6"),
        (
            MeshConfig(model=16),
            7,
            "is 16 devices, and there are 7: with replica=1, model can be 1 or 7",
        ),
    ],
)
def test_sizes_that_do_not_divide_name_those_that_would(config, devices, message):
    with pytest.raises(UserError) as caught:
        mesh_shape(config, devices)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def chips(side, slices=1, kind="TPU v4"):
    """Stand-ins for the devices of TPU slices, in JAX's order."""
    x, y, z = side
    return [
        SimpleNamespace(
            platform="tpu",
            device_kind=kind,
            coords=(i, j, k),
            core_on_chip=0,
            slice_index=s,
            id=(s, i, j, k),
        )
        for s in range(slices)
        for k in range(z)
        for j in range(y)
        for i in range(x)
    ]


def by_slice(devices):
    return [
        [d for d in devices if d.slice_index == s] for s in sorted({d.slice_index for d in devices})
    ]


@pytest.mark.parametrize(
    ("shape", "replicas_of_slice", "data_of_slice"),
    [((2, 4, 2), 1, 4), ((4, 2, 2), 2, 2), ((1, 8, 2), 1, 4), ((2, 2, 4), 1, 2)],
)
def test_replica_goes_over_slices_and_data_after_it(shape, replicas_of_slice, data_of_slice):
    grid = arranged(by_slice(chips((2, 2, 2), slices=2)), shape)
    assert grid.shape == shape
    assert len({d.id for d in grid.flat}) == 16
    where = np.vectorize(lambda d: d.slice_index)(grid)
    replicas, rows = np.indices(shape)[:2]
    np.testing.assert_array_equal(
        where,
        (replicas // replicas_of_slice) * (shape[0] > 1)
        + (rows // data_of_slice) * (shape[0] == 1),
    )


def test_neighbours_on_the_model_axis_are_neighbours_on_the_torus():
    grid = arranged([chips((4, 4, 4))], (1, 16, 4))
    coords = np.array([[d.coords for d in row] for row in grid[0]])
    assert (np.abs(np.diff(coords, axis=1)).sum(axis=-1) == 1).all()


def test_a_part_of_a_slice_takes_the_devices_in_their_order():
    some = chips((4, 2, 1))[:6]
    grid = arranged([some], (1, 3, 2))
    assert list(grid.flat) == some


def test_the_model_axis_stays_inside_a_slice_of_a_tpu():
    with pytest.raises(
        UserError, match="model=8 would reach over slices.* divisor of the 4 devices"
    ):
        make_mesh(MeshConfig(replica=1, model=8), chips((2, 2, 1), slices=2))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            MeshConfig(parameters="fully_shard"),
            "'fully_shard' is not one of replicated, fully_sharded; did you mean 'fully_sharded'?",
        ),
        (
            MeshConfig(rules={"embd": "data"}),
            "no logical axis is named 'embd', only .*did you mean 'embed'?",
        ),
        (
            MeshConfig(rules={"embed": "modle"}),
            "'embed' cannot lie on 'modle', only on replica, data, model; did you mean 'model'?",
        ),
        (MeshConfig(rules={"mlp": ("data", "x")}), "'mlp' cannot lie on 'x'"),
        (
            MeshConfig(rules={"mlp": ("model", "model")}),
            "'mlp' lies on model, model: name each axis once",
        ),
        (MeshConfig(rules={"batch": "data"}), "'batch' always lies on replica and data"),
    ],
)
def test_an_unknown_preset_axis_or_rule_is_one_line(config, message):
    with pytest.raises(UserError, match=message) as caught:
        make_mesh(config)
    assert "\n" not in str(caught.value)


def shapes_of(config):
    model = models.build(config)
    return jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))


def test_rules_of_the_user_are_honoured():
    config = MeshConfig(
        replica=2, data=2, model=2, rules={"embed": ("replica", "data"), "mlp": None}
    )
    mesh = make_mesh(config)
    layer = param_shardings(shapes_of(FACTORED), mesh, AXES, rules_of(config))["encoder"]["layers"]
    assert layer["mlp"]["wi_0"]["kernel"].spec == P(None, ("replica", "data"), None)
    assert layer["attention"]["out"]["kernel"].spec == P(None, "model", ("replica", "data"))
    assert layer["pre_mlp_layer_norm"]["scale"].spec == P(None, None)


def test_parameters_that_a_mesh_does_not_divide_are_told():
    config = MeshConfig(parameters="fully_sharded")
    shapes, rules = shapes_of(FACTORED), rules_of(config)
    assert undivided(shapes, make_mesh(config), AXES, rules) is None
    told = undivided(shapes, make_mesh(config, jax.devices()[:3]), AXES, rules)
    assert re.fullmatch(
        r"MeshConfig: data=3 does not divide the model's embed \(128\), so that 100% of the parameters lie whole "
        r"along it; a divisor of 128 spreads them",
        told,
    )


def test_of_two_axes_that_want_one_mesh_axis_the_upper_name_has_it():
    rules = {**axes.PRESETS["replicated"], "length": "model", "width": "model"}
    mesh = make_mesh(MeshConfig(data=4, model=2))

    def placed(*names):
        return axes.partition_spec(names, rules, mesh)

    rows = ("replica", "data")
    assert placed("batch", "length", "mlp") == P(rows, None, "model")
    assert placed("batch", "length", "width") == P(rows, None, "model")
    assert placed("batch", "heads", "length", "kv") == P(rows, "model", None, None)


def test_what_a_mesh_axis_does_not_divide_lies_whole():
    mesh = make_mesh(MeshConfig(replica=2, data=2, model=2))
    spec = axes.fitting(P(("replica", "data"), "model"), (6, 7), mesh)
    assert spec == P("replica", None)


@pytest.mark.parametrize("optimizer", [Adafactor(beta1=0.9), AdamW()])
def test_optimizer_slots_lie_as_the_axes_that_they_keep(optimizer):
    config = MeshConfig(data=4, model=2, parameters="fully_sharded")
    mesh = make_mesh(config)
    built = optimizer.build(Constant(0.1).build(), lambda path: 0 if "layers" in path else None)
    abstract = jax.eval_shape(lambda: new_state(_zeros(shapes_of(FACTORED)), built))
    state = state_shardings(abstract, mesh, AXES, rules_of(config))
    assert state.step.is_fully_replicated

    def spec(tree, *path):
        for name in path:
            tree = tree[name]
        return tree.spec

    wi = ("encoder", "layers", "mlp", "wi_0", "kernel")
    query = ("encoder", "layers", "attention", "query", "kernel")
    assert spec(state.params, *wi) == P(None, "data", "model")
    if isinstance(optimizer, AdamW):
        moments = state.opt_state[0]
        assert spec(moments.mu, *wi) == spec(moments.nu, *wi) == P(None, "data", "model")
        assert moments.count.is_fully_replicated
        return
    slots = state.opt_state
    assert slots.count.is_fully_replicated
    assert spec(slots.m, *wi) == P(None, "data", "model")
    # v_row lacks the larger axis (of a square matrix the last), v_col the other.
    assert (spec(slots.v_row, *wi), spec(slots.v_col, *wi)) == (P(None, "data"), P(None, "model"))
    assert (spec(slots.v_row, *query), spec(slots.v_col, *query)) == (
        P(None, "data"),
        P(None, "model"),
    )
    embedding = ("token_embedder", "embedding")
    assert (spec(slots.v_row, *embedding), spec(slots.v_col, *embedding)) == (P("data"), P("model"))
    assert slots.v["token_embedder"]["embedding"].is_fully_replicated
    # The specs are those of the shapes that optax really makes.
    for leaf, sharding in zip(
        jax.tree.leaves(abstract.opt_state), jax.tree.leaves(slots), strict=True
    ):
        sharding.shard_shape(leaf.shape)


def _zeros(tree):
    return jax.tree.map(lambda x: jax.numpy.zeros(x.shape, x.dtype), tree)


def test_rows_of_some_devices():
    """Devices that share wide parameters hold the same rows; those of one host need not be neighbours."""
    mesh = make_mesh(MeshConfig(data=4, model=2), jax.devices())
    grid = mesh.devices[0]
    assert rows_of(grid.ravel().tolist(), mesh, 8) == ((0, 8),)
    assert rows_of([grid[1, 0]], mesh, 8) == rows_of([grid[1, 1]], mesh, 8) == ((2, 4),)
    assert rows_of([grid[3, 0], grid[0, 1], grid[2, 0]], mesh, 8) == ((0, 2), (4, 8))


def test_a_batch_lies_by_rows():
    mesh = make_mesh(MeshConfig(replica=2, data=2, model=2))
    rows = np.arange(16, dtype=np.int32).reshape(8, 2)
    placed = to_device(mesh, {"x": rows})["x"]
    np.testing.assert_array_equal(placed, rows)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 2)}
    with pytest.raises(UserError, match="BATCH_SIZE = 6 does not split .* 4 device.*: 8 would"):
        check_batch(mesh, 6, 1)
    with pytest.raises(UserError, match="4 would, or MeshConfig.model=4, by which"):
        check_batch(mesh, 2, 1)
