"""Norms with a scale and no bias, computed and scaled in float32, returned in the dtype of what is normed."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn


class Norm(nn.Module):
    """`x / rms(x) * scale` over the last axis, or with `centered` the same of x less its mean (LayerNorm).

    Attributes:
      width: of the last axis.
      epsilon: added to the mean square.
      centered: subtract the mean first.
      offset: multiply by 1 + scale, a scale that starts at 0 (Gemma).
    """

    width: int
    epsilon: float
    centered: bool = False
    offset: bool = False

    def setup(self) -> None:
        init = nn.initializers.zeros if self.offset else nn.initializers.ones
        self.scale = self.param("scale", init, (self.width,), jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = 1.0 + self.scale if self.offset else self.scale
        return _normed(x, scale, self.epsilon, self.centered)


@partial(jax.checkpoint, static_argnums=(2, 3))
def _normed(x: jax.Array, scale: jax.Array, epsilon: float, centered: bool) -> jax.Array:
    """Of which x alone is kept for the backward pass."""
    x32 = x.astype(jnp.float32)
    if centered:
        x32 = x32 - jnp.mean(x32, axis=-1, keepdims=True)
    inverse = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + epsilon)
    return (x32 * inverse * scale).astype(x.dtype)
