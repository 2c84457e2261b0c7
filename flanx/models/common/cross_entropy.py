"""Cross-entropy with z-loss and label smoothing, token by token, in float32."""

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
    rest over the other tokens, and its entropy H(q) is subtracted so that a perfect model reaches 0. Training does not
    come by here: `projected_loss` has the same numbers without the logits of a whole batch.

    Args:
      logits: [B, L, V], any float dtype.
      targets: int32 [B, L].
      z_loss: weight of log(Z)^2, which keeps logits from drifting (Mesh TensorFlow; T5X: 1e-4).
      label_smoothing: probability taken from the target.

    Returns:
      Per-token loss, z-loss and hit.
    """
    return loss_of_logits(logits.astype(jnp.float32), targets, z_loss, label_smoothing)[0]


def loss_of_logits(
    logits: jax.Array, targets: jax.Array, z_loss: float, label_smoothing: float
) -> tuple[TokenLoss, jax.Array]:
    """`token_loss` of float32 logits [..., V] for targets [...], and log(Z) [...], which `slope` wants."""
    on, off, entropy = _soft_target(logits.shape[-1], label_smoothing)
    highest = jnp.max(logits, axis=-1)
    log_z = highest + jnp.log(jnp.sum(jnp.exp(logits - highest[..., None]), axis=-1))
    target_logit = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    loss = log_z - (on - off) * target_logit - entropy
    if off:
        loss -= off * jnp.sum(logits, axis=-1)
    drift = z_loss * jnp.square(log_z)
    return TokenLoss(loss + drift, drift, target_logit >= highest), log_z


def slope(
    logits: jax.Array, targets: jax.Array, log_z: jax.Array, z_loss: float, label_smoothing: float
) -> jax.Array:
    """d loss / d logits = (1 + 2 z log Z) softmax - q, float32 [..., V]; never a one-hot that is written out."""
    on, off, _ = _soft_target(logits.shape[-1], label_smoothing)
    softmax = jnp.exp(logits - log_z[..., None])
    hit = targets[..., None] == jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return (1.0 + 2.0 * z_loss * log_z)[..., None] * softmax - jnp.where(hit, on, off)


def _soft_target(vocab_size: int, label_smoothing: float) -> tuple[float, float, float]:
    """Probability of the target, of every other token, and the entropy of that distribution (with T5X's 1e-20)."""
    on = 1.0 - label_smoothing
    if not label_smoothing:
        return 1.0, 0.0, 0.0
    off = label_smoothing / (vocab_size - 1)
    entropy = -(on * np.log(on) + (vocab_size - 1) * off * np.log(off + 1e-20))
    return on, off, float(entropy)
