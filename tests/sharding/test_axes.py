"""The axis table: every parameter of both forms is named, and rules place it."""

from dataclasses import replace

import jax
import pytest
from jax.sharding import AxisType, PartitionSpec

from flanx import models
from flanx.models.t5.config import T5Config
from flanx.sharding import axes, constraints
from flanx.sharding.params import param_shardings

CONFIG = T5Config(
    emb_dim=32,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=48,
    vocab_size=64,
)
AXES = CONFIG.parameters().logical_axes


def shapes(config: T5Config):
    model = models.build(config)
    return jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))


def mesh(data: int, model: int):
    return jax.make_mesh(
        (1, data, model), ("replica", "data", "model"), axis_types=(AxisType.Auto,) * 3
    )


@pytest.mark.parametrize("scan", [False, True])
def test_every_parameter_has_names(scan):
    config = replace(CONFIG, scan_layers=scan)
    tree = param_shardings(shapes(config), mesh(2, 1), AXES)
    assert all(sharding.is_fully_replicated for sharding in jax.tree.leaves(tree))
    name = "encoder/layers/mlp/wo/kernel" if scan else "encoder/layers_1/mlp/wo/kernel"
    want = ("layers", "mlp", "embed") if scan else ("mlp", "embed")
    assert AXES(name, len(want)) == want


def test_rules_place_axes_and_never_use_a_mesh_axis_twice():
    rules = {
        "embed": "data",
        "mlp": "model",
        "vocab": ("model", "data"),
        "batch": ("replica", "data"),
    }
    tree = param_shardings(shapes(CONFIG), mesh(2, 2), AXES, rules)
    assert tree["encoder"]["layers_0"]["mlp"]["wi_0"]["kernel"].spec == PartitionSpec(
        "data", "model"
    )
    assert tree["token_embedder"]["embedding"].spec == PartitionSpec(("model", "data"), None)
    spec = axes.partition_spec(("batch",), rules, mesh(2, 2))
    assert spec == PartitionSpec(("replica", "data"))


def test_nothing_is_constrained_where_nothing_is_placed():
    x = jax.numpy.ones((4, 6))
    assert constraints.constrain(x, "batch", "mlp") is x
    assert constraints.constrain_params({"x": x}, AXES)["x"] is x
    with constraints.placed(mesh(1, 1), axes.PRESETS["fully_sharded"]):
        assert constraints.constrain(x, "batch", "mlp") is x
    with constraints.placed(mesh(2, 2), axes.PRESETS["fully_sharded"]):
        placed = jax.jit(lambda x: constraints.constrain(x, "batch", "mlp"))(x)
        with pytest.raises(ValueError, match="3 names .* for an array of shape"):
            constraints.constrain(x, "batch", "length", "mlp")
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    assert constraints.constrain(x, "batch", "mlp") is x


def test_unknown_parameter_is_named():
    with pytest.raises(ValueError, match="encoder/other is not in"):
        AXES("encoder/other", 2)
