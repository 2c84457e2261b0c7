"""T5: tokens in, float32 logits out; in one go for training, or position by position for decoding.

Parameter names and shapes are T5X's (`t5x/examples/t5/network.py`), so are the numbers: tests hold both against
arrays that T5X itself computed.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flanx.models.common import decode_state, masks
from flanx.models.common.decode_state import Cache, KeyValue, Prompt
from flanx.models.common.layers import Embed
from flanx.models.common.projection import Projection
from flanx.models.t5.config import T5Config
from flanx.models.t5.stacks import Decoder, Encoder
from flanx.sharding.constraints import constrain

START_ID = 0  # what the decoder is given before the first token


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

    def answers_hidden(self, prompt: jax.Array, answers: jax.Array) -> jax.Array:
        """Decoder output before the projection at each token of n given answers to each prompt.

        The encoder runs once a row, and its answers attend to one set of keys and values.

        Args:
          prompt: int32 [B, Li], 0 for padding.
          answers: int32 [B, n, Lt]; what stands behind an answer changes nothing before it.

        Returns:
          [B, n, Lt, E].
        """
        rows, count, length = answers.shape
        previous = jnp.pad(answers.reshape(rows * count, length)[:, :-1], ((0, 0), (1, 0)))
        hidden = self.decode(self.encode(prompt), prompt, previous)
        return hidden.reshape(rows, count, length, -1)

    def prefill(self, prompt: jax.Array) -> tuple[jax.Array, Prompt]:
        """Encodes int32 [B, Li], 0 for padding: the first decoder inputs [B], and all that steps read of it."""
        key_values = self.decoder.prompt_key_values(self.encode(prompt))
        start = jnp.full(prompt.shape[:1], START_ID, jnp.int32)
        return start, Prompt(key_values, masks.lengths_of(prompt))

    def step(
        self,
        tokens: jax.Array,
        index: jax.Array,
        cache: Cache,
        prompt: Prompt,
        origin: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """One position of every row: tokens [B] at `index` -> logits [B, V] of the next token, new cache.

        `index` is a scalar, or int32 [B] with a position for each row. A row sees its cache up to its own position
        alone, so a row that starts over at 0 needs no clean cache.

        With `origin`, the n beams of every row: tokens [B, n] -> logits [B, n, V]. Beams never move in the cache: slot
        b of position t keeps what beam b had there at step t, and a beam finds its own past by `origin`, int32
        [B, n, T], the slot of each position. So choosing new beams copies a small table rather than the cache; and a
        row's beams read its cache, like its encoder's keys and values, once for all.
        """
        beams = tokens if origin is not None else tokens[:, None]
        hidden, cache = self.decoder.step(self.token_embedder(beams), cache, prompt, index, origin)
        return self.logits(hidden if origin is not None else hidden[:, 0]), cache

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., E] -> float32 [..., V]. Operands have the activations' dtype, sums and result are float32."""
        if self.config.logits_via_embedding:
            logits = self.token_embedder.attend(hidden)
        else:
            logits = self.decoder.project_logits(hidden)
        return constrain(logits, "batch", *["length"] * (logits.ndim - 2), "vocab")

    def empty_cache(self, rows: int, max_length: int, beams: int = 1) -> Cache:
        """Zeroed keys and values of decoder self-attention: for each layer a pair of [rows, H, max_length*beams, D]."""
        return self._zeros(rows, max_length * beams)

    def empty_prompt(self, rows: int, width: int) -> Prompt:
        """What `prefill` makes of prompts of `width` positions, none of which is real."""
        return Prompt(self._zeros(rows, width), jnp.zeros((rows,), jnp.int32))

    def _zeros(self, rows: int, positions: int) -> tuple[KeyValue, ...]:
        cfg = self.config
        shape = (rows, cfg.num_heads, positions, cfg.head_dim)
        return decode_state.zeros(cfg.num_decoder_layers, shape, cfg.dtype)
