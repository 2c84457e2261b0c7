"""The network against arrays that T5X itself computed: logits and gradients, padded and packed."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from flanx import models
from flanx.models.common import scanned
from flanx.models.t5.config import T5Config

CONFIG = T5Config(
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
    vocab_size=1024,
    dropout_rate=0.0,
    dtype="float32",
)


@pytest.fixture(scope="module")
def oracle(shared_oracles: Path) -> tuple[dict, dict]:
    folder = shared_oracles / "t5x_tiny"
    params = unflatten_dict(dict(np.load(folder / "params.npz")), sep="/")
    return params, dict(np.load(folder / "expected.npz"))


def batch_of(expected: dict, kind: str) -> dict:
    prefix = f"{kind}/batch/"
    return {
        name.removeprefix(prefix): jnp.asarray(value)
        for name, value in expected.items()
        if name.startswith(prefix) and not name.endswith("loss_weights")
    }


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def test_parameter_names_and_shapes_are_t5x(oracle):
    params, _ = oracle
    model = models.build(CONFIG)
    ours = flatten_dict(
        jax.eval_shape(lambda key: models.init_params(model, key), jax.random.key(0))
    )
    theirs = flatten_dict(params)
    assert {name: leaf.shape for name, leaf in ours.items()} == {
        name: leaf.shape for name, leaf in theirs.items()
    }
    assert {leaf.dtype for leaf in ours.values()} == {jnp.dtype("float32")}


@pytest.mark.parametrize("kind", ["padded", "packed"])
@pytest.mark.parametrize("scan", [False, True])
def test_logits(oracle, kind, scan):
    params, expected = oracle
    config = replace(CONFIG, scan_layers=scan)
    if scan:
        params = scanned.to_scanned(params)
    logits = jax.jit(models.build(config).apply)({"params": params}, **batch_of(expected, kind))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, expected[f"{kind}/logits"], atol=1e-4, rtol=0)


def packed_loss(model, params, expected) -> jax.Array:
    """T5X's loss: sum over real tokens of cross-entropy and 1e-4 log(Z)^2."""
    batch = batch_of(expected, "packed")
    logits = model.apply({"params": params}, **batch)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    gold = jnp.take_along_axis(logits, batch["decoder_target_tokens"][..., None], axis=-1)[..., 0]
    weights = expected["packed/batch/decoder_loss_weights"]
    return jnp.sum((log_z - gold + 1e-4 * log_z**2) * weights)


@pytest.mark.parametrize(("scan", "remat"), [(False, "none"), (False, "minimal"), (True, "full")])
def test_gradients(oracle, scan, remat):
    params, expected = oracle
    config = replace(CONFIG, scan_layers=scan, remat=remat)
    model = models.build(config)
    if scan:
        params = scanned.to_scanned(params)
    loss, grads = jax.jit(jax.value_and_grad(lambda p: packed_loss(model, p, expected)))(params)
    np.testing.assert_allclose(loss, expected["packed/loss"], rtol=1e-6)
    grads = flatten_dict(scanned.to_unrolled(grads), sep="/")
    for name, grad in grads.items():
        want = expected[f"packed/grad/{name}"]
        np.testing.assert_allclose(grad, want, atol=1e-4 * np.abs(want).max(), rtol=0, err_msg=name)
