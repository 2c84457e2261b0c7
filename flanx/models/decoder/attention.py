"""Self-attention with rotary positions, whose heads of keys and values may each serve a group of query heads.

Keys are never copied for the heads that share them (`products.by_heads`). What a query is multiplied by, 1 / sqrt(d)
or another factor, goes into its rotation, which is done in float32 anyway: it costs no rounding.
"""

from collections.abc import Sequence

import jax
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name

from flanx.models.common import cudnn, products
from flanx.models.common.decode_state import KeyValue
from flanx.models.common.dropout import AttentionDropout
from flanx.models.common.layers import FAN_IN_NORMAL, Dense
from flanx.models.common.norms import Norm
from flanx.models.decoder.config import DecoderConfig
from flanx.models.decoder.rotary import Rotation, rotate
from flanx.sharding.constraints import constrain


class Attention(nn.Module):
    """Parameters `query` (E, H*D), `key` and `value` (E, Hkv*D), `out` (H*D, E); `query_norm`, `key_norm`."""

    config: DecoderConfig

    def setup(self) -> None:
        cfg = self.config
        self.query = Dense(cfg.emb_dim, cfg.joined_dim, FAN_IN_NORMAL, cfg.qkv_bias)
        self.key = Dense(cfg.emb_dim, cfg.joined_kv_dim, FAN_IN_NORMAL, cfg.qkv_bias)
        self.value = Dense(cfg.emb_dim, cfg.joined_kv_dim, FAN_IN_NORMAL, cfg.qkv_bias)
        self.out = Dense(cfg.joined_dim, cfg.emb_dim, FAN_IN_NORMAL)
        if cfg.qk_norm != "none":
            full = cfg.qk_norm == "full"
            options = (cfg.norm_epsilon, cfg.norm == "layer", cfg.norm_offset)
            self.query_norm = Norm(cfg.joined_dim if full else cfg.head_dim, *options)
            self.key_norm = Norm(cfg.joined_kv_dim if full else cfg.head_dim, *options)

    def __call__(
        self,
        x: jax.Array,
        rotation: Rotation,
        mask: jax.Array,
        dropout: AttentionDropout | None = None,
    ) -> jax.Array:
        """x [B, L, E], mask [B or 1, 1, L, L] -> [B, L, E]."""
        return self.attend(x, *self.project(x, rotation), rotation, mask, dropout)

    def project(self, x: jax.Array, rotation: Rotation) -> KeyValue:
        """Rotated keys, and values, of [B, L, E]: [B, Hkv, L, D] each."""
        key, value = checkpoint_name(self.key(x), "key"), checkpoint_name(self.value(x), "value")
        key = self._normed(key, "key_norm", self.config.num_kv_heads)
        return rotate(key, rotation), self._split(value, self.config.num_kv_heads)

    def attend(
        self,
        x: jax.Array,
        key: jax.Array,
        value: jax.Array,
        rotation: Rotation,
        mask: jax.Array,
        dropout: AttentionDropout | None = None,
    ) -> jax.Array:
        """Attention of x [B, Q, E] over ready keys and values [B, Hkv, K, D] -> [B, Q, E]."""
        query, softcap = self._query(x, rotation), self.config.attn_softcap
        if dropout is not None:
            value = value * dropout.weights
        if softcap is not None:
            mixed = products.capped_attention(query, key, value, mask, softcap)
            mixed = checkpoint_name(mixed, "attention")
        else:
            fused = self.config.attention != "xla" and cudnn.obstacle(query, key, mask) is None
            attention = cudnn.attention if fused else products.attention
            mixed = attention(query, key, value, None, mask)
        out = checkpoint_name(self._out(mixed), "attention_out")
        return out if dropout is None else out * dropout.out

    def attend_over(
        self,
        x: jax.Array,
        parts: Sequence[tuple[jax.Array, jax.Array, jax.Array]],
        rotation: Rotation,
    ) -> jax.Array:
        """Attention of x [B, Q, E] over keys, values and masks in several parts: the prompt and the answer so far."""
        query = self._query(x, rotation)
        return self._out(products.attention_over(query, parts, self.config.attn_softcap))

    def _query(self, x: jax.Array, rotation: Rotation) -> jax.Array:
        cfg = self.config
        query = checkpoint_name(self.query(x), "query")
        scale = cfg.head_dim**-0.5 if cfg.query_scale is None else cfg.query_scale
        return rotate(self._normed(query, "query_norm", cfg.num_heads), rotation, scale)

    def _out(self, mixed: jax.Array) -> jax.Array:
        rows, _, length, _ = mixed.shape
        out = self.out(mixed.swapaxes(1, 2).reshape(rows, length, self.config.joined_dim))
        return constrain(out, "batch", "length", "width")

    def _normed(self, x: jax.Array, norm: str, heads: int) -> jax.Array:
        """[B, L, heads*D] -> [B, heads, L, D], with its norm before or after it is split."""
        if self.config.qk_norm == "full":
            x = getattr(self, norm)(x)
        split = self._split(x, heads)
        return getattr(self, norm)(split) if self.config.qk_norm == "head" else split

    def _split(self, x: jax.Array, heads: int) -> jax.Array:
        """[B, L, heads*D] -> [B, heads, L, D]."""
        split = x.reshape(*x.shape[:2], heads, self.config.head_dim).swapaxes(1, 2)
        axis = "heads" if heads == self.config.num_heads else "kv_heads"
        return constrain(split, "batch", axis, "length", "kv")
