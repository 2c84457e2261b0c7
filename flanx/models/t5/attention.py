"""Multi-head attention as T5 has it: no bias in the projections, no 1/sqrt(d), an additive bias on the logits.

Work is done in (batch, head, length, dim) order, where both products are plain batched matrix products.
"""

import math

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from flanx.models.common import cudnn, products
from flanx.models.common.dropout import AttentionDropout
from flanx.models.common.layers import FAN_IN_NORMAL, Dense
from flanx.sharding.constraints import constrain


def _query_init(head_dim: int):
    """Attention leaves out 1/sqrt(d); T5 folds it into the query projection's first values instead."""

    def init(*args):
        return FAN_IN_NORMAL(*args) / math.sqrt(head_dim)

    return init


class Attention(nn.Module):
    """Self- or cross-attention with parameters `query`, `key`, `value` (E, H*D) and `out` (H*D, E)."""

    emb_dim: int
    num_heads: int
    head_dim: int
    implementation: str = "xla"

    def setup(self) -> None:
        joined = self.num_heads * self.head_dim
        self.query = Dense(self.emb_dim, joined, _query_init(self.head_dim))
        self.key = Dense(self.emb_dim, joined, FAN_IN_NORMAL)
        self.value = Dense(self.emb_dim, joined, FAN_IN_NORMAL)
        self.out = Dense(joined, self.emb_dim, FAN_IN_NORMAL)

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        bias: jax.Array | None,
        mask: jax.Array,
        dropout: AttentionDropout | None = None,
    ) -> jax.Array:
        """x [B*n, Q, E], memory [B, K, E], bias [1, H, Q, K], mask [B or 1, 1, Q or 1, K] -> [B*n, Q, E]."""
        return self.attend(x, *self.project(memory), bias, mask, dropout)

    def project(self, memory: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Keys and values of [B, K, E], each [B, H, K, D]."""
        key, value = self.key(memory), self.value(memory)
        return (
            self._split(checkpoint_name(key, "key")),
            self._split(checkpoint_name(value, "value")),
        )

    def attend(
        self,
        x: jax.Array,
        key: jax.Array,
        value: jax.Array,
        bias: jax.Array | None,
        mask: jax.Array,
        dropout: AttentionDropout | None = None,
    ) -> jax.Array:
        """Attention of x over ready keys and values: [B*n, Q, E], 2 x [B, H, K, D] -> [B*n, Q, E].

        With n > 1, n rows of x share one row of keys (answers to one question, or beams): they are laid end to end
        as its queries, so there must be no bias then, and a mask with Q = 1.
        """
        rows, length, _ = x.shape
        query = checkpoint_name(self.query(x), "query")
        query = self._split(query.reshape(key.shape[0], -1, self.num_heads * self.head_dim))
        if dropout is not None:
            value = value * dropout.weights
        fused = self.implementation != "xla" and cudnn.obstacle(query, key, mask) is None
        attention = cudnn.attention if fused else products.attention
        mixed = attention(query, key, value, bias, mask)
        out = self.out(mixed.swapaxes(1, 2).reshape(rows, length, self.num_heads * self.head_dim))
        out = checkpoint_name(constrain(out, "batch", "length", "width"), "attention_out")
        return out if dropout is None else out * dropout.out

    def _split(self, x: jax.Array) -> jax.Array:
        """[B, L, H*D] -> [B, H, L, D]."""
        split = x.reshape(*x.shape[:2], self.num_heads, self.head_dim).swapaxes(1, 2)
        return constrain(split, "batch", "heads", "length", "kv")
