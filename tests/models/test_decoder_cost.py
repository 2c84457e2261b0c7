"""A decoder's settings are checked, its FLOPs are XLA's own count, and a device's share is a network."""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import pytest

from flanx import models
from flanx.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
import decoders as dc


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_kv_heads", 3),
        ("head_dim", 7),
        ("qk_norm", "heads"),
        ("norm", "rmsnorm"),
        ("norm_places", "sandwich"),
        ("mlp_activations", ("swish",)),
        ("mlp_activations", ()),
        ("window", 0),
        ("window_pattern", ("global",)),
        ("rope_local_theta", 1e4),
        ("rope_scaling", "dynamic"),
        ("rope_factor", 2.0),
        ("rope_theta", 0.5),
        ("attn_softcap", 0.0),
        ("dropout_rate", 1.0),
        ("logit_scale", float("nan")),
        ("remat_names", ("mlp",)),
    ],
)
def test_a_setting_that_cannot_be_is_named(setting, value):
    with pytest.raises(UserError, match=setting):
        replace(dc.BASE, **{setting: value})


def test_settings_that_do_not_go_together_are_named():
    with pytest.raises(UserError, match="norm_places"):
        replace(dc.BASE, parallel=True, norm_places="both")
    with pytest.raises(UserError, match="attention"):
        replace(dc.FAMILIES["gemma2"], attention="cudnn")


def test_flops_are_those_that_xla_counts():
    config = replace(dc.BASE, num_kv_heads=1, emb_dim=64, mlp_dim=256)
    model, rows, length = models.build(config), 2, 32
    params = jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((rows, length), "int32")
    counted = jax.jit(model.apply).lower({"params": params}, tokens).cost_analysis()["flops"]
    ours = config.flops_per_step(rows, {"inputs": 20, "targets": 12}) / 3
    assert 0.8 < ours / counted <= 1.0
    # By hand: a layer's products per token, attention, output.
    token = 2 * (64 * 32 + 2 * 64 * 8 + 32 * 64 + 3 * 64 * 256)
    layer = length * token + 4 * length**2 * 32
    assert ours == rows * (2 * layer + 2 * length * 64 * 60)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "devices", "shared"),
    [(32, 8, 8, (4, 1)), (32, 8, 16, (2, 2)), (16, 1, 16, (1, 1)), (8, 4, 3, (8, 4))],
)
def test_a_devices_share(heads, kv_heads, devices, shared):
    config = replace(dc.BASE, num_heads=heads, num_kv_heads=kv_heads, vocab_size=480)
    share = config.tensor_share(devices)
    assert (share.num_heads, share.num_kv_heads) == shared
    assert config.divides_over(devices) == (heads % devices == 0 and 48 % devices == 0)
    assert config.one_layer().num_layers == 1
