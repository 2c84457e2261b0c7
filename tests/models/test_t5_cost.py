"""Parameters and FLOPs by arithmetic, against the tree, the published table, hand-work, and XLA's own count."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import flanx
from flanx import models
from flanx.errors import UserError
from flanx.models.t5 import flops
from flanx.models.t5.config import T5Config

SIZES = {
    # emb, heads, layers, mlp, parameters exactly, as published
    "small": (512, 6, 8, 1024, 76_961_152, "76.96M"),
    "base": (768, 12, 12, 2048, 247_577_856, "247.58M"),
    "large": (1024, 16, 24, 2816, 783_150_080, "783.15M"),
    "xl": (2048, 32, 24, 5120, 2_849_757_184, "2.850B"),
    "xxl": (4096, 64, 24, 10240, 11_135_332_352, "11.135B"),
}
GIN = Path(flanx.__file__).parents[1] / "gin/models/t5_1_1"


def config_of(size: str, **changes) -> T5Config:
    emb, heads, layers, mlp, *_ = SIZES[size]
    config = T5Config(
        emb_dim=emb,
        num_heads=heads,
        num_encoder_layers=layers,
        num_decoder_layers=layers,
        mlp_dim=mlp,
    )
    return replace(config, **changes)


def tree_size(config: T5Config) -> int:
    model = models.build(config)
    shapes = jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("size", SIZES)
def test_published_parameter_counts(size):
    *_, exact, published = SIZES[size]
    count = config_of(size).num_parameters()
    assert count == exact
    shown = f"{count / 1e6:.2f}M" if count < 1e9 else f"{count / 1e9:.3f}B"
    assert shown == published
    assert tree_size(config_of(size, scan_layers=True)) == count


@pytest.mark.parametrize(
    "changes",
    [
        {"logits_via_embedding": True},
        {"mlp_activations": ("relu",)},
        {"num_decoder_layers": 3, "head_dim": 32},
    ],
)
def test_counts_of_other_shapes(changes):
    config = config_of("small", vocab_size=77, **changes)
    assert config.num_parameters() == tree_size(config)


def test_flops_by_hand():
    # E = 2, J = 1 head of 3, F = 5, two activations, V = 7; one row of Li = 2, Lt = 1, one layer each.
    config = T5Config(
        emb_dim=2,
        num_heads=1,
        head_dim=3,
        mlp_dim=5,
        vocab_size=7,
        num_encoder_layers=1,
        num_decoder_layers=1,
    )
    encoder = 4 * (2 * 2 * 2 * 3)  # four projections of [2, 2] @ [2, 3] or back
    encoder += 2 * (2 * 2 * 3 * 2)  # logits [2, 3] @ [3, 2] and weighted sum
    encoder += 3 * (2 * 2 * 2 * 5)  # wi_0, wi_1, wo
    assert flops.encoder_flops(config, 1, 2) == encoder
    decoder = 4 * (2 * 1 * 2 * 3) + 2 * (2 * 1 * 3 * 1)
    decoder += 2 * (2 * 1 * 2 * 3) + 2 * (2 * 2 * 2 * 3) + 2 * (2 * 1 * 3 * 2)
    decoder += 3 * (2 * 1 * 2 * 5) + 2 * 1 * 2 * 7
    assert flops.decoder_flops(config, 1, 2, 1) == decoder
    assert flops.forward_flops(config, 4, 2, 1) == 4 * (encoder + decoder)
    assert config.flops_per_step(4, {"inputs": 2, "targets": 1}) == 12 * (encoder + decoder)


def test_flops_against_xla():
    config = T5Config(
        emb_dim=256,
        num_heads=4,
        head_dim=64,
        num_encoder_layers=2,
        num_decoder_layers=2,
        mlp_dim=512,
        vocab_size=1024,
        dropout_rate=0.0,
        dtype="float32",
    )
    model = models.build(config)
    params = jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    encoder, decoder = (jax.ShapeDtypeStruct((2, n), jnp.int32) for n in (64, 32))

    def forward(params, inputs, targets):
        return model.apply({"params": params}, inputs, targets, targets)

    def step(params, inputs, targets):
        return jax.grad(lambda p: jnp.sum(forward(p, inputs, targets)))(params)

    for function, ours in (
        (forward, flops.forward_flops(config, 2, 64, 32)),
        (step, flops.train_step_flops(config, 2, 64, 32)),
    ):
        counted = jax.jit(function).lower(params, encoder, decoder).cost_analysis()["flops"]
        assert abs(counted / ours - 1) < 0.03, (function.__name__, counted, ours)


def test_published_shapes_are_in_the_gin_files():
    for size, (emb, heads, layers, mlp, _, published) in SIZES.items():
        text = (GIN / f"{size}.gin").read_text()
        assert published in text.splitlines()[0]
        for name, value in (
            ("emb_dim", emb),
            ("num_heads", heads),
            ("num_encoder_layers", layers),
            ("num_decoder_layers", layers),
            ("mlp_dim", mlp),
        ):
            assert f"t5.T5Config.{name} = {value}\n" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "bfloat"}, "did you mean 'bfloat16'"),
        ({"remat": "ful"}, "did you mean 'full'"),
        ({"remat_names": ("atention",)}, "did you mean 'attention'"),
        ({"remat": "names", "remat_names": ()}, "remat_names is empty"),
        ({"attention": "cudn"}, "did you mean 'cudnn'"),
        ({"mlp_activations": ("gelu", "linaer")}, "did you mean 'linear'"),
        ({"num_heads": 0}, "num_heads is 0; it must be at least 1"),
        ({"dropout_rate": 1.0}, r"must be in \[0, 1\)"),
        ({"relpos_buckets": 5}, "must be even"),
        ({"relpos_max_distance": 16}, "must be above"),
    ],
)
def test_bad_configurations_say_what_is_wrong(change, message):
    with pytest.raises(UserError, match=message):
        config_of("small", **change)


def test_dict_round_trip():
    config = config_of("small", scan_layers=True)
    assert models.config_from_dict(config.to_dict()) == config
    older = {k: v for k, v in config.to_dict().items() if k not in ("attention", "remat_names")}
    assert (
        models.config_from_dict(older) == config
    )  # as configurations were stored before these were there


def test_config_imports_no_jax():
    code = "import sys, flanx.models.t5.config; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
