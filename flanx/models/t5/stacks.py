"""Encoder and decoder: layers of norm, attention and feed-forward with residual sums, looped plainly or by scan."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from flanx.models.common import layer_stack, masks, products
from flanx.models.common.decode_state import Cache, KeyValue, Prompt, write_at
from flanx.models.common.dropout import (
    LayerDropout,
    StackDropout,
    Widths,
    scale,
    stack_dropout,
)
from flanx.models.common.layers import Dense, Mlp, RMSNorm
from flanx.models.t5.attention import Attention
from flanx.models.t5.config import T5Config
from flanx.models.t5.relative_bias import RelativePositionBias
from flanx.sharding.constraints import constrain


def _attention(config: T5Config) -> Attention:
    return Attention(config.emb_dim, config.num_heads, config.head_dim, config.attention)


def _mlp(config: T5Config) -> Mlp:
    return Mlp(config.emb_dim, config.mlp_dim, config.mlp_activations)


def _relative_bias(config: T5Config, *, bidirectional: bool) -> RelativePositionBias:
    return RelativePositionBias(
        config.num_heads, config.relpos_buckets, config.relpos_max_distance, bidirectional
    )


def _widths(config: T5Config) -> Widths:
    return Widths(config.dropout_rate, config.num_heads, config.mlp_dim)


def _bias_of(table: RelativePositionBias, length: int) -> jax.Array:
    """float32 [1, H, L, L]."""
    return constrain(table(length, length), None, "heads", None, None)


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward block."""

    config: T5Config

    def setup(self) -> None:
        cfg = self.config
        if cfg.relpos_per_layer:
            self.relpos_bias = _relative_bias(cfg, bidirectional=True)
        self.pre_attention_layer_norm = RMSNorm(cfg.emb_dim)
        self.attention = _attention(cfg)
        self.pre_mlp_layer_norm = RMSNorm(cfg.emb_dim)
        self.mlp = _mlp(cfg)

    def __call__(
        self,
        x: jax.Array,
        bias: jax.Array | None,
        mask: jax.Array,
        dropout: LayerDropout | None = None,
    ) -> jax.Array:
        """[B, L, E] -> [B, L, E]; `bias` is the stack's, None where the layer has its own."""
        if bias is None:
            bias = _bias_of(self.relpos_bias, x.shape[1])
        y = self.pre_attention_layer_norm(x)
        x = x + self.attention(y, y, bias, mask, dropout and dropout.self_attention)
        return x + self.mlp(self.pre_mlp_layer_norm(x), dropout and dropout.mlp)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder, then the feed-forward block."""

    config: T5Config

    def setup(self) -> None:
        cfg = self.config
        if cfg.relpos_per_layer:
            self.relpos_bias = _relative_bias(cfg, bidirectional=False)
        self.pre_self_attention_layer_norm = RMSNorm(cfg.emb_dim)
        self.self_attention = _attention(cfg)
        self.pre_cross_attention_layer_norm = RMSNorm(cfg.emb_dim)
        self.encoder_decoder_attention = _attention(cfg)
        self.pre_mlp_layer_norm = RMSNorm(cfg.emb_dim)
        self.mlp = _mlp(cfg)

    def __call__(
        self,
        x: jax.Array,
        encoded: jax.Array,
        self_bias: jax.Array | None,
        self_mask: jax.Array,
        cross_mask: jax.Array,
        dropout: LayerDropout | None = None,
    ) -> jax.Array:
        """x [B*n, Lt, E], encoded [B, Li, E] -> [B*n, Lt, E]; n rows may share one encoded row.

        `self_bias` is the stack's, None where the layer has its own.
        """
        if self_bias is None:
            self_bias = _bias_of(self.relpos_bias, x.shape[1])
        y = self.pre_self_attention_layer_norm(x)
        x = x + self.self_attention(y, y, self_bias, self_mask, dropout and dropout.self_attention)
        y = self.pre_cross_attention_layer_norm(x)
        x = x + self.encoder_decoder_attention(
            y, encoded, None, cross_mask, dropout and dropout.cross_attention
        )
        return x + self.mlp(self.pre_mlp_layer_norm(x), dropout and dropout.mlp)

    def cross_key_value(self, encoded: jax.Array) -> KeyValue:
        """Keys and values of the encoder's output, which no decoding step changes."""
        return self.encoder_decoder_attention.project(encoded)

    def step(
        self,
        x: jax.Array,
        cache: KeyValue,
        cross: KeyValue,
        index: jax.Array,
        self_bias: jax.Array,
        cross_bias: jax.Array,
    ) -> tuple[jax.Array, KeyValue]:
        """One position: x [B, n, E] at `index`, cache of [B, H, T*n, D] -> its output and the cache with it."""
        y = self.pre_self_attention_layer_norm(x)
        key, value = self.self_attention.project(y)
        cache = (write_at(cache[0], key, index), write_at(cache[1], value, index))
        x = x + self.self_attention.attend(y, *cache, None, self_bias)
        y = self.pre_cross_attention_layer_norm(x)
        x = x + self.encoder_decoder_attention.attend(y, *cross, None, cross_bias)
        return x + self.mlp(self.pre_mlp_layer_norm(x)), cache


class Encoder(nn.Module):
    """All encoder layers, with the position bias before and the norm after them."""

    config: T5Config

    def setup(self) -> None:
        cfg = self.config
        if not cfg.relpos_per_layer:
            self.relpos_bias = _relative_bias(cfg, bidirectional=True)
        self.layers = layer_stack.make(EncoderLayer, cfg, cfg.num_encoder_layers)
        self.encoder_norm = RMSNorm(cfg.emb_dim)

    def __call__(self, x: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        """Embedded tokens [B, L, E], mask [B, 1, L, L] -> [B, L, E]."""
        shared = not self.config.relpos_per_layer
        bias = _bias_of(self.relpos_bias, x.shape[1]) if shared else None
        count, drop = self.config.num_encoder_layers, StackDropout()
        if not deterministic and self.config.dropout_rate:
            drop = stack_dropout(self.make_rng("dropout"), _widths(self.config), count, x)
        x = layer_stack.run(
            lambda layer, x, dropout: layer(x, bias, mask, dropout),
            self.layers,
            scale(x, drop.first),
            drop.layers,
            self.config,
            count,
        )
        return scale(self.encoder_norm(x), drop.last)


class Decoder(nn.Module):
    """All decoder layers, with the position bias before and the norm after them."""

    config: T5Config

    def setup(self) -> None:
        cfg = self.config
        if not cfg.relpos_per_layer:
            self.relpos_bias = _relative_bias(cfg, bidirectional=False)
        self.layers = layer_stack.make(DecoderLayer, cfg, cfg.num_decoder_layers)
        self.decoder_norm = RMSNorm(cfg.emb_dim)
        if not cfg.logits_via_embedding:
            self.logits_dense = Dense(cfg.emb_dim, cfg.vocab_size)

    def __call__(
        self,
        x: jax.Array,
        encoded: jax.Array,
        self_mask: jax.Array,
        cross_mask: jax.Array,
        deterministic: bool,
    ) -> jax.Array:
        """Embedded tokens [B*n, Lt, E], encoded [B, Li, E] -> [B*n, Lt, E], normed."""
        shared = not self.config.relpos_per_layer
        bias = _bias_of(self.relpos_bias, x.shape[1]) if shared else None
        count, drop = self.config.num_decoder_layers, StackDropout()
        if not deterministic and self.config.dropout_rate:
            drop = stack_dropout(
                self.make_rng("dropout"), _widths(self.config), count, x, encoded.shape[1]
            )
        x = layer_stack.run(
            lambda layer, x, dropout: layer(x, encoded, bias, self_mask, cross_mask, dropout),
            self.layers,
            scale(x, drop.first),
            drop.layers,
            self.config,
            count,
        )
        return scale(self.decoder_norm(x), drop.last)

    def project_logits(self, x: jax.Array) -> jax.Array:
        """[..., E] -> float32 [..., V], with an output projection of its own."""
        return products.matmul(x, self.logits_dense.kernel.astype(x.dtype), jnp.float32)

    def prompt_key_values(self, encoded: jax.Array) -> tuple[KeyValue, ...]:
        """Each layer's keys and values of the encoder's output."""
        layers = layer_stack.one_by_one(self.config, self.layers)
        return tuple(layer.cross_key_value(encoded) for layer in layers)

    def step(
        self,
        x: jax.Array,
        cache: Cache,
        prompt: Prompt,
        index: jax.Array,
        origin: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Embedded tokens [B, n, E] at position `index` -> normed output [B, n, E] and the new cache.

        `index` is one position for all rows, or int32 [B], each row's own. `origin` is int32 [B, n, T] where n > 1:
        see `T5.step`.
        """
        beams = x.shape[1]
        length = cache[0][0].shape[2] // beams

        def bias_of(table: RelativePositionBias) -> jax.Array:
            bias = table.at(index, length) + masks.step_mask(index, length)
            if origin is None:
                return bias
            shape = (x.shape[0], self.config.num_heads, beams, length * beams)
            return (bias[..., None] + masks.beam_mask(origin)).reshape(shape)

        shared = None if self.config.relpos_per_layer else bias_of(self.relpos_bias)
        cross_bias = masks.lengths_mask(prompt.lengths, prompt.key_values[0][0].shape[2])
        new_cache = []
        for layer, cached, cross in zip(
            layer_stack.one_by_one(self.config, self.layers), cache, prompt.key_values, strict=True
        ):
            bias = bias_of(layer.relpos_bias) if shared is None else shared
            x, cached = layer.step(x, cached, cross, index, bias, cross_bias)
            new_cache.append(cached)
        return self.decoder_norm(x), tuple(new_cache)
