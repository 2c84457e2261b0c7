"""Pieces that layers are built of: projection, embedding, norm, feed-forward block.

Parameters are float32 whatever the activations are; each use casts them to the activations' dtype.
"""

import functools
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from flanx.models.common import products
from flanx.models.common.dropout import MlpDropout
from flanx.models.common.lookup import lookup
from flanx.models.common.parameters import mlp_branches
from flanx.sharding.constraints import constrain

Initializer = Callable[..., jax.Array]

FAN_IN_NORMAL = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
FAN_IN_TRUNCATED = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
NORM_EPSILON = 1e-6

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "linear": lambda x: x,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
}


class Dense(nn.Module):
    """`x @ kernel`, and `+ bias` where there is one: [..., inputs] -> [..., outputs]."""

    inputs: int
    outputs: int
    kernel_init: Initializer = FAN_IN_TRUNCATED
    use_bias: bool = False

    def setup(self) -> None:
        self.kernel = self.param(
            "kernel", self.kernel_init, (self.inputs, self.outputs), jnp.float32
        )
        if self.use_bias:
            self.bias = self.param("bias", nn.initializers.zeros, (self.outputs,), jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        product = products.matmul(x, self.kernel.astype(x.dtype))
        return product + self.bias.astype(x.dtype) if self.use_bias else product


class Embed(nn.Module):
    """Token vectors by gather, and logits by the same table where they are tied."""

    vocab_size: int
    emb_dim: int
    dtype: DTypeLike
    stddev: float = 1.0

    def setup(self) -> None:
        shape = (self.vocab_size, self.emb_dim)
        init = nn.initializers.normal(self.stddev)
        self.embedding = self.param("embedding", init, shape, jnp.float32)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int32 [B, L] -> [B, L, E]."""
        return lookup(self.embedding, tokens, self.dtype)

    def attend(self, x: jax.Array) -> jax.Array:
        """[..., E] -> float32 logits [..., V], scaled by 1/sqrt(E) as T5X scales tied logits."""
        logits = products.matmul(x, self.embedding.astype(x.dtype).T, jnp.float32)
        return logits / jnp.sqrt(jnp.float32(self.emb_dim))

    def output_kernel(self) -> tuple[jax.Array, int, float]:
        """What `attend` multiplies by: a kernel, its axis of tokens, and the factor of the products."""
        return self.embedding, 0, self.emb_dim**-0.5


class RMSNorm(nn.Module):
    """`x / rms(x) * scale` over the last axis, computed in float32, returned in the dtype of `x`."""

    emb_dim: int

    def setup(self) -> None:
        self.scale = self.param("scale", nn.initializers.ones, (self.emb_dim,), jnp.float32)

    def __call__(self, x: jax.Array) -> jax.Array:
        return _normed(x, self.scale.astype(x.dtype))


@jax.checkpoint
def _normed(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Of which x alone is kept for the backward pass."""
    x32 = x.astype(jnp.float32)
    inverse = jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + NORM_EPSILON)
    return (x32 * inverse).astype(x.dtype) * scale


class Mlp(nn.Module):
    """Feed-forward block: the product of `activation_i(x @ wi_i)`, dropout, `wo`, dropout.

    With one activation the projection is called `wi`, with more `wi_0`, `wi_1`, as T5X calls them.
    """

    emb_dim: int
    mlp_dim: int
    activations: tuple[str, ...]

    def setup(self) -> None:
        names = mlp_branches(self.activations)
        self.branches = [Dense(self.emb_dim, self.mlp_dim, name=name) for name in names]
        self.wo = Dense(self.mlp_dim, self.emb_dim)

    def __call__(self, x: jax.Array, dropout: MlpDropout | None = None) -> jax.Array:
        """[B, L, E] -> [B, L, E]."""
        branches = [checkpoint_name(branch(x), "mlp_branch") for branch in self.branches]
        factors = None if dropout is None else dropout.hidden
        out = _combine(branches, factors, self.wo.kernel.astype(x.dtype), self.activations)
        out = constrain(out, "batch", "length", "width")
        return out if dropout is None else out * dropout.out


@functools.partial(jax.checkpoint, static_argnums=(3,))
def _combine(
    branches: list[jax.Array],
    factors: jax.Array | None,
    kernel: jax.Array,
    activations: tuple[str, ...],
) -> jax.Array:
    """Activations, their product, dropout and `wo`: [B, L, F] each -> [B, L, E].

    Of all this only the branches are kept for the backward pass. The rest, seven arrays of their size with a gated
    GELU, is a few operations a number, which cost less than to write it and to read it again.
    """
    parts = [_ACTIVATIONS[name](branch) for name, branch in zip(activations, branches, strict=True)]
    hidden = functools.reduce(operator.mul, parts)
    if factors is not None:
        hidden = hidden * factors
    return products.matmul(constrain(hidden, "batch", "length", "mlp"), kernel)
