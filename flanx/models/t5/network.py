"""T5: tokens in, float32 logits out; in one go for training, or position by position for decoding.

Parameter names and shapes are T5X's (`t5x/examples/t5/network.py`), so are the numbers: tests hold both against
arrays that T5X itself computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flanx.models.common import masks
from flanx.models.common.layers import Embed
from flanx.models.common.projection import Projection
from flanx.models.t5.config import T5Config
from flanx.models.t5.stacks import Decoder, Encoder, KeyValue, Memory
from flanx.sharding.constraints import constrain


class T5(nn.Module):
    """The encoder-decoder. Shapes: B rows, Li input and Lt target tokens, E = emb_dim, V = vocab_size."""

    config: T5Config

    def setup(self) -> None:
        cfg = self.config
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, jnp.dtype(cfg.dtype))
        self.encoder = Encoder(cfg)
        self.decoder = Decoder(cfg)

    def __call__(
        self,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array | None = None,
        *,
        encoder_segment_ids: jax.Array | None = None,
        encoder_positions: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        decoder_positions: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Teacher-forced logits, float32 [B, Lt, V].

        All arrays are int32 [B, Li] or [B, Lt]; token 0 is padding. Segment ids come in pairs, and keep attention
        inside each packed example. Positions are taken so that a whole batch can be passed on; relative distances
        make them needless. `deterministic=False` wants `rngs={"dropout": key}`.
        """
        del encoder_positions, decoder_positions
        hidden = self.hidden(
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids=encoder_segment_ids,
            decoder_segment_ids=decoder_segment_ids,
            deterministic=deterministic,
        )
        return self.logits(hidden)

    def example_forward(self) -> jax.Array:
        """A forward pass of the least size, which makes every parameter."""
        tokens = jnp.ones((1, 1), jnp.int32)
        return self(tokens, tokens)

    def before_logits(self, *tokens: jax.Array, **options: Any) -> Projection:
        """What `__call__` makes its logits of, for the same arguments: a loss can then do so part by part."""
        options.pop("encoder_positions", None)
        options.pop("decoder_positions", None)
        hidden = self.hidden(*tokens, **options)
        if self.config.logits_via_embedding:
            return Projection(hidden, *self.token_embedder.output_kernel())
        return Projection(hidden, self.decoder.logits_dense.kernel)

    def hidden(
        self,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array | None = None,
        *,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """What `__call__` computes before the output projection: [B, Lt, E]."""
        encoded = self.encode(
            encoder_input_tokens,
            encoder_segment_ids=encoder_segment_ids,
            deterministic=deterministic,
        )
        return self.decode(
            encoded,
            encoder_input_tokens,
            decoder_input_tokens,
            decoder_target_tokens,
            encoder_segment_ids=encoder_segment_ids,
            decoder_segment_ids=decoder_segment_ids,
            deterministic=deterministic,
        )

    def encode(
        self,
        encoder_input_tokens: jax.Array,
        *,
        encoder_segment_ids: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Encoder output [B, Li, E]."""
        mask = masks.encoder_mask(encoder_input_tokens, encoder_segment_ids)
        return self.encoder(self.token_embedder(encoder_input_tokens), mask, deterministic)

    def decode(
        self,
        encoded: jax.Array,
        encoder_input_tokens: jax.Array,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array | None = None,
        *,
        encoder_segment_ids: jax.Array | None = None,
        decoder_segment_ids: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """Decoder output before the projection, [B*n, Lt, E].

        `decoder_*` may have n times the rows of the encoder's output, n answers to each question one after the other;
        then no segment ids, and no target tokens (the queries of a row must all see the same inputs).
        """
        self_mask = masks.decoder_mask(
            decoder_input_tokens.shape[1], decoder_target_tokens, decoder_segment_ids
        )
        cross_mask = masks.cross_mask(
            encoder_input_tokens, decoder_target_tokens, encoder_segment_ids, decoder_segment_ids
        )
        return self.decoder(
            self.token_embedder(decoder_input_tokens), encoded, self_mask, cross_mask, deterministic
        )

    def memory(self, encoder_input_tokens: jax.Array) -> Memory:
        """Encodes [B, Li], and lays out all that decoding steps read of it.

        Every array has the batch's rows as its first axis, and rows do not depend on each other: rows of one memory
        can be put into another of the same Li.
        """
        encoded = self.encode(encoder_input_tokens)
        cross_bias = masks.cross_mask(encoder_input_tokens, None, None, None)
        return self.decoder.memory(encoded, cross_bias)

    def decode_step(
        self, tokens: jax.Array, index: jax.Array, cache: tuple[KeyValue, ...], memory: Memory
    ) -> tuple[jax.Array, tuple[KeyValue, ...]]:
        """One position of every row: tokens [B] at `index` -> logits [B, V] of the next token, new cache.

        `index` is a scalar, or int32 [B] with a position for each row. A row sees its cache up to its own position
        alone, so a row that starts over at 0 needs no clean cache.
        """
        hidden, cache = self.decoder.step(
            self.token_embedder(tokens[:, None]), cache, memory, index
        )
        return self.logits(hidden[:, 0]), cache

    def beam_step(
        self,
        tokens: jax.Array,
        index: jax.Array,
        cache: tuple[KeyValue, ...],
        memory: Memory,
        origin: jax.Array,
    ) -> tuple[jax.Array, tuple[KeyValue, ...]]:
        """One position of the n beams of every row: tokens [B, n] at `index` -> logits [B, n, V], new cache.

        Beams never move in the cache: slot b of position t keeps what beam b had there at step t, and a beam finds its
        own past by `origin`, int32 [B, n, T], the slot of each position. So choosing new beams copies a small table
        rather than the cache; and a row's beams read its cache, like its encoder's keys and values, once for all.
        """
        hidden, cache = self.decoder.step(self.token_embedder(tokens), cache, memory, index, origin)
        return self.logits(hidden), cache

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., E] -> float32 [..., V]. Operands have the activations' dtype, sums and result are float32."""
        if self.config.logits_via_embedding:
            logits = self.token_embedder.attend(hidden)
        else:
            logits = self.decoder.project_logits(hidden)
        return constrain(logits, "batch", *["length"] * (logits.ndim - 2), "vocab")

    def empty_cache(self, rows: int, max_length: int, beams: int = 1) -> tuple[KeyValue, ...]:
        """Zeroed keys and values of decoder self-attention: for each layer a pair of [rows, H, max_length*beams, D]."""
        cfg = self.config
        shape = (rows, cfg.num_heads, max_length * beams, cfg.head_dim)
        zeros = jnp.zeros(shape, jnp.dtype(cfg.dtype))
        return tuple((zeros, zeros) for _ in range(cfg.num_decoder_layers))
