"""Cross-entropy with z-loss and label smoothing, token by token, in float32."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class TokenLoss(NamedTuple):
    """Per-token results, [B, L]; nothing is weighted yet.

    `loss` float32, z-loss inside; `z_loss` float32; `correct` bool, whether no token is likelier than the target (a
    maximum instead of T5X's argmax, which is slow on CPUs; they differ in exact ties alone).
    """

    loss: jax.Array
    z_loss: jax.Array
    correct: jax.Array


def token_loss(
    logits: jax.Array, targets: jax.Array, *, z_loss: float = 0.0, label_smoothing: float = 0.0
) -> TokenLoss:
    """Cross-entropy of each target (T5X: `losses.compute_weighted_cross_entropy`, before weighting).

    loss = -sum_v q_v log p_v - H(q) + z_loss * log(Z)^2, where q puts 1 - label_smoothing on the target and spreads the
    rest over the other tokens, and its entropy H(q) is subtracted so that a perfect model reaches 0.

    Args:
      logits: [B, L, V], any float dtype.
      targets: int32 [B, L].
      z_loss: weight of log(Z)^2, which keeps logits from drifting (Mesh TensorFlow; T5X: 1e-4).
      label_smoothing: probability taken from the target.

    Returns:
      Per-token loss, z-loss and hit.
    """
    return TokenLoss(*_cross_entropy(logits, targets, z_loss, label_smoothing))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _cross_entropy(
    logits: jax.Array, targets: jax.Array, z_loss: float, label_smoothing: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _forward(logits, targets, z_loss, label_smoothing)[0]


def _forward(logits: jax.Array, targets: jax.Array, z_loss: float, label_smoothing: float):
    """Keeps the logits and log(Z) for the backward pass: never a one-hot or a softmax of the whole batch."""
    on, off, entropy = _soft_target(logits.shape[-1], label_smoothing)
    logits_f32 = logits.astype(jnp.float32)
    highest = jnp.max(logits_f32, axis=-1)
    log_z = highest + jnp.log(jnp.sum(jnp.exp(logits_f32 - highest[..., None]), axis=-1))
    target_logit = jnp.take_along_axis(logits_f32, targets[..., None], axis=-1)[..., 0]
    loss = log_z - (on - off) * target_logit - entropy
    if off:
        loss -= off * jnp.sum(logits_f32, axis=-1)
    drift = z_loss * jnp.square(log_z)
    return (loss + drift, drift, target_logit >= highest), (logits, targets, log_z)


def _backward(z_loss: float, label_smoothing: float, residuals, cotangents):
    """d loss / d logits = (1 + 2 z log Z) softmax - q; the z-loss alone and the hits carry no gradient (as T5X)."""
    logits, targets, log_z = residuals
    on, off, _ = _soft_target(logits.shape[-1], label_smoothing)
    softmax = jnp.exp(logits.astype(jnp.float32) - log_z[..., None])
    hit = targets[..., None] == jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    slope = (1.0 + 2.0 * z_loss * log_z)[..., None] * softmax - jnp.where(hit, on, off)
    grad = (cotangents[0][..., None] * slope).astype(logits.dtype)
    return grad, np.zeros(targets.shape, jax.dtypes.float0)


_cross_entropy.defvjp(_forward, _backward)


def _soft_target(vocab_size: int, label_smoothing: float) -> tuple[float, float, float]:
    """Probability of the target, of every other token, and the entropy of that distribution (with T5X's 1e-20)."""
    on = 1.0 - label_smoothing
    if not label_smoothing:
        return 1.0, 0.0, 0.0
    off = label_smoothing / (vocab_size - 1)
    entropy = -(on * np.log(on) + (vocab_size - 1) * off * np.log(off + 1e-20))
    return on, off, float(entropy)
