"""The loss against its definition written out, and its gradient against automatic differentiation of that."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx.models.common.cross_entropy import loss_of_logits, slope, token_loss


def obvious(logits, targets, z_loss, smoothing):
    vocab = logits.shape[-1]
    off = smoothing / (vocab - 1)
    soft = jnp.where(jax.nn.one_hot(targets, vocab) > 0, 1 - smoothing, off)
    entropy = -jnp.sum(jnp.where(soft > 0, soft * jnp.log(soft + 1e-20), 0.0), axis=-1)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    cross = -jnp.sum(soft * jax.nn.log_softmax(logits), axis=-1)
    return cross - entropy + z_loss * log_z**2, z_loss * log_z**2


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("z_loss", [0.0, 1e-2])
def test_value_and_gradient(smoothing, z_loss):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(3, 7, 11), scale=3), jnp.float32)
    targets = jnp.asarray(rng.integers(0, 11, (3, 7)), jnp.int32)
    weights = jnp.asarray(rng.uniform(size=(3, 7)), jnp.float32)

    def theirs(x):
        return jnp.sum(obvious(x, targets, z_loss, smoothing)[0] * weights)

    each = token_loss(logits, targets, z_loss=z_loss, label_smoothing=smoothing)
    loss, drift = obvious(logits, targets, z_loss, smoothing)
    np.testing.assert_allclose(each.loss, loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(each.z_loss, drift, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(each.correct, jnp.argmax(logits, -1) == targets)
    _, log_z = loss_of_logits(logits, targets, z_loss, smoothing)
    ours = slope(logits, targets, log_z, z_loss, smoothing) * weights[..., None]
    np.testing.assert_allclose(ours, jax.jit(jax.grad(theirs))(logits), rtol=1e-4, atol=1e-6)


def test_large_logits_and_bfloat16():
    logits = jnp.asarray([[[1000.0, 0.0, -1000.0]]])
    each = token_loss(logits, jnp.asarray([[0]]))
    assert float(each.loss[0, 0]) == 0.0
    half = logits.astype(jnp.bfloat16)
    assert token_loss(half, jnp.asarray([[1]])).loss.dtype == jnp.float32


def test_a_perfect_model_reaches_zero_under_label_smoothing():
    probabilities = jnp.asarray([0.9, 0.05, 0.05])
    each = token_loss(jnp.log(probabilities)[None, None], jnp.asarray([[0]]), label_smoothing=0.1)
    assert float(each.loss[0, 0]) == pytest.approx(0.0, abs=1e-6)
