"""What the network promises beside T5X's numbers: isolation, dropout, scan, remat, dtypes."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx import models
from flanx.models.common import dropout, scanned
from flanx.models.t5.config import REMAT, T5Config

CONFIG = T5Config(
    emb_dim=32,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=48,
    vocab_size=60,
    dropout_rate=0.0,
    dtype="float32",
)


def random_tokens(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, CONFIG.vocab_size, shape).astype(np.int32)


def params_of(config: T5Config):
    """Parameters of seed 0; drawn once for all configurations that share their shapes."""
    return jax.tree.map(
        lambda leaf: leaf, _draw(replace(config, dropout_rate=0.0, dtype="float32"))
    )


@cache
def _draw(config: T5Config):
    return jax.jit(models.init_params, static_argnums=0)(models.build(config), jax.random.key(0))


def forward(config: T5Config, params, *tokens, seed=None, **segments) -> jax.Array:
    """Logits, compiled (op by op takes many times as long); with a seed, under dropout."""
    apply = jax.jit(partial(models.build(config).apply, deterministic=seed is None))
    rngs = None if seed is None else {"dropout": jax.random.key(seed)}
    return apply({"params": params}, *tokens, rngs=rngs, **segments)


def shifted(targets: np.ndarray) -> np.ndarray:
    return np.pad(targets[:, :-1], ((0, 0), (1, 0)))


def test_packed_row_equals_its_examples_alone():
    sizes = [(5, 3), (7, 4), (2, 2)]
    examples = [(random_tokens(i, n), random_tokens(10 + i, m)) for i, (n, m) in enumerate(sizes)]
    row = {name: np.zeros((1, length), np.int32) for name, length in [("e", 16), ("es", 16)]}
    row |= {name: np.zeros((1, 12), np.int32) for name in ("d", "dt", "ds")}
    at_e = at_d = 0
    for segment, (inputs, targets) in enumerate(examples, start=1):
        row["e"][0, at_e : at_e + len(inputs)] = inputs
        row["es"][0, at_e : at_e + len(inputs)] = segment
        row["dt"][0, at_d : at_d + len(targets)] = targets
        row["d"][0, at_d + 1 : at_d + len(targets)] = targets[:-1]
        row["ds"][0, at_d : at_d + len(targets)] = segment
        at_e, at_d = at_e + len(inputs), at_d + len(targets)
    params = params_of(CONFIG)
    packed = forward(
        CONFIG,
        params,
        row["e"],
        row["d"],
        row["dt"],
        encoder_segment_ids=row["es"],
        decoder_segment_ids=row["ds"],
    )
    at_d = 0
    for inputs, targets in examples:
        alone = forward(CONFIG, params, inputs[None], shifted(targets[None]), targets[None])
        here = packed[0, at_d : at_d + len(targets)]
        np.testing.assert_allclose(here, alone[0], atol=2e-5)
        at_d += len(targets)


def test_padding_changes_nothing():
    inputs, targets = random_tokens(0, 2, 6), random_tokens(1, 2, 4)
    params = params_of(CONFIG)
    short = forward(CONFIG, params, inputs, shifted(targets), targets)
    wide_inputs = np.pad(inputs, ((0, 0), (0, 5)))
    wide_targets = np.pad(targets, ((0, 0), (0, 3)))
    wide_decoder = np.pad(shifted(targets), ((0, 0), (0, 3)))
    wide = forward(CONFIG, params, wide_inputs, wide_decoder, wide_targets)
    np.testing.assert_allclose(wide[:, :4], short, atol=2e-5)
    no_targets = forward(CONFIG, params, wide_inputs, wide_decoder)
    np.testing.assert_allclose(no_targets[:, :4], short, atol=2e-5)


def test_scan_and_remat_change_no_number():
    inputs, targets = random_tokens(0, 2, 6), random_tokens(1, 2, 4)
    config = replace(CONFIG, dropout_rate=0.3)
    params = params_of(config)

    def loss_and_grads(config, params):
        def loss(params):
            logits = models.build(config).apply(
                {"params": params},
                inputs,
                shifted(targets),
                targets,
                deterministic=False,
                rngs={"dropout": jax.random.key(3)},
            )
            return jnp.mean(logits**2)

        return jax.jit(jax.value_and_grad(loss))(params)

    want, want_grads = loss_and_grads(config, params)
    for scan, remat in (
        (True, "minimal"),
        (False, "names"),
        (True, "names"),
        (False, "full"),
    ):
        tree = scanned.to_scanned(params) if scan else params
        got, grads = loss_and_grads(replace(config, remat=remat, scan_layers=scan), tree)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 + 2e-5 * np.abs(b).max()),
            scanned.to_unrolled(grads),
            want_grads,
        )


def test_remat_policies_keep_less_and_less_and_names_what_they_say():
    """Bytes handed from the forward to the backward pass, by tracing alone."""

    def kept(remat, *names):
        config = replace(CONFIG, remat=remat, scan_layers=True, dropout_rate=0.1)
        config = replace(config, remat_names=names or config.remat_names)
        model = models.build(config)
        params = jax.eval_shape(partial(models.init_params, model), jax.random.key(0))
        tokens = [jax.ShapeDtypeStruct((2, n), jnp.int32) for n in (8, 4, 4)]

        def backward(params, *tokens):
            def call(params):
                rngs = {"dropout": jax.random.key(0)}
                return model.apply({"params": params}, *tokens, deterministic=False, rngs=rngs)

            return jax.vjp(call, params)[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, params, *tokens))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    sizes = [kept(remat) for remat in REMAT]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    # Two layers a stack: 8 positions of 2 rows in the encoder, 4 in the decoder, two branches, float32.
    inner = 2 * 2 * (8 + 4) * 2 * CONFIG.mlp_dim * 4
    assert kept("names", "mlp_branch") - sizes[-1] == inner
    joined = 2 * 2 * (8 + 2 * 4) * CONFIG.joined_dim * 4
    assert kept("names", "mlp_branch", "attention") - sizes[-1] == inner + joined


def test_scanned_tree_is_what_a_scanned_model_makes_and_round_trips():
    params = params_of(CONFIG)
    stacked = scanned.to_scanned(params)
    made = params_of(replace(CONFIG, scan_layers=True))
    assert jax.tree.map(jnp.shape, stacked) == jax.tree.map(jnp.shape, made)
    back = scanned.to_unrolled(stacked)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    on_host = scanned.to_scanned(jax.tree.map(np.asarray, params))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(on_host))
    # Layers drawn by a scan differ from one another, as layers drawn one by one do.
    query = made["encoder"]["layers"]["attention"]["query"]["kernel"]
    assert not np.allclose(query[0], query[1])


def test_scanned_refuses_a_missing_layer():
    params = params_of(CONFIG)
    del params["encoder"]["layers_0"]
    with pytest.raises(ValueError, match=r"layers \[1\] are not numbered 0 to 0"):
        scanned.to_scanned(params)


def test_dropout_masks_are_shared_along_the_length():
    config = replace(CONFIG, dropout_rate=0.25)
    x = jnp.ones((3, 7, config.emb_dim))
    widths = dropout.Widths(config.dropout_rate, config.num_heads, config.mlp_dim)
    factors = dropout.stack_dropout(jax.random.key(0), widths, 2, x, memory_length=5)
    layers = factors.layers
    assert factors.first.shape == (3, 1, 32)
    assert layers.self_attention.weights.shape == (2, 3, 2, 7, 1)
    assert layers.cross_attention.weights.shape == (2, 3, 2, 5, 1)
    assert layers.mlp.hidden.shape == (2, 3, 1, 48)
    assert layers.mlp.out.shape == (2, 3, 1, 32)
    drawn = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(factors)])
    assert set(np.unique(drawn)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(np.mean(drawn == 0) - 0.25) < 0.05


def test_dropout_is_off_unless_asked_for_and_follows_its_key():
    config = replace(CONFIG, dropout_rate=0.5)
    inputs, targets = random_tokens(0, 2, 6), random_tokens(1, 2, 4)
    params = params_of(config)

    def logits(seed=None):
        return forward(config, params, inputs, shifted(targets), targets, seed=seed)

    plain = forward(CONFIG, params, inputs, shifted(targets), targets)
    np.testing.assert_array_equal(logits(), plain)
    np.testing.assert_array_equal(logits(1), logits(1))
    assert not np.allclose(logits(1), logits(2))
    assert not np.allclose(logits(1), plain)


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_bfloat16_activations_float32_everything_else(tied):
    config = replace(CONFIG, dtype="bfloat16", logits_via_embedding=tied, dropout_rate=0.1)
    inputs, targets = random_tokens(0, 2, 6), random_tokens(1, 2, 4)
    params = params_of(config)

    def logits(params, config):
        return forward(config, params, inputs, shifted(targets), targets, seed=0)

    low, high = logits(params, config), logits(params, replace(config, dtype="float32"))
    assert low.dtype == jnp.float32
    assert np.abs(low - high).max() < 0.1 * np.abs(high).max()
    grads = jax.jit(jax.grad(lambda p: jnp.mean(logits(p, config) ** 2)))(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    encode = partial(models.build(config).apply, method="encode")
    encoded = jax.eval_shape(encode, {"params": params}, inputs)
    assert encoded.dtype == jnp.bfloat16


def test_tied_logits_are_the_embedding_scaled():
    config = replace(CONFIG, logits_via_embedding=True)
    params = params_of(config)
    assert "logits_dense" not in params["decoder"]
    model = models.build(config)
    hidden = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 32)), jnp.float32)
    logits = model.apply({"params": params}, hidden, method="logits")
    want = np.asarray(hidden) @ np.asarray(params["token_embedder"]["embedding"]).T / np.sqrt(32)
    np.testing.assert_allclose(logits, want, atol=1e-4)


def test_initial_values_have_t5x_deviations():
    config = replace(CONFIG, emb_dim=128, mlp_dim=256, head_dim=32, num_heads=4, vocab_size=500)
    params = params_of(config)
    layer = params["decoder"]["layers_1"]
    want = {
        ("encoder_decoder_attention", "query"): (128 * 32) ** -0.5,
        ("encoder_decoder_attention", "key"): 128**-0.5,
        ("self_attention", "value"): 128**-0.5,
        ("self_attention", "out"): 128**-0.5,
        ("mlp", "wi_0"): 128**-0.5,
        ("mlp", "wo"): 256**-0.5,
    }
    for (block, name), deviation in want.items():
        got = float(jnp.std(layer[block][name]["kernel"]))
        assert abs(got / deviation - 1) < 0.05, (block, name)
    assert abs(float(jnp.std(params["token_embedder"]["embedding"])) - 1) < 0.05
    bias = params["encoder"]["relpos_bias"]["rel_embedding"]
    assert float(jnp.max(jnp.abs(bias))) <= np.sqrt(3 * 2 / (4 + 32))
    np.testing.assert_array_equal(layer["pre_mlp_layer_norm"]["scale"], np.ones(128))
