"""The decoder network: tokens in, float32 logits out; in one go for training, or position by position for decoding.

Parameters have T5X's names where it has them. Numbers are those of transformers' Llama, Mistral, Qwen, Gemma and OLMo,
against which tests hold each.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from flanx.models.common import decode_state, masks, products
from flanx.models.common.decode_state import Cache, Prompt
from flanx.models.common.layers import Embed
from flanx.models.common.projection import Projection
from flanx.models.decoder.config import DecoderConfig
from flanx.models.decoder.stack import Decoder
from flanx.sharding.constraints import constrain


class DecoderLm(nn.Module):
    """The language model. Shapes: B rows of L tokens, E = emb_dim, V = vocab_size."""

    config: DecoderConfig

    def setup(self) -> None:
        cfg = self.config
        # Logits by the same table have a variance of 1 either way: by small vectors, or by a factor.
        stddev = cfg.emb_dim**-0.5 if cfg.logit_scale == 1.0 else 1.0
        dtype = jnp.dtype(cfg.dtype)
        self.token_embedder = Embed(cfg.vocab_size, cfg.emb_dim, dtype, stddev)
        self.decoder = Decoder(cfg)

    def __call__(self, *tokens: jax.Array, **options: Any) -> jax.Array:
        """Teacher-forced logits, float32 [B, L, V]; arguments are those of `hidden`."""
        return self.logits(self.hidden(*tokens, **options))

    def before_logits(self, *tokens: jax.Array, **options: Any) -> Projection:
        """What `__call__` makes its logits of, for the same arguments: a loss can then do so part by part."""
        cfg, hidden = self.config, self.hidden(*tokens, **options)
        if cfg.logits_via_embedding:
            kernel, axis = self.token_embedder.embedding, 0
        else:
            kernel, axis = self.decoder.logits_dense.kernel, 1
        return Projection(hidden, kernel, axis, cfg.logit_scale, cfg.final_softcap)

    def example_forward(self) -> jax.Array:
        """A forward pass of the least size, which makes every parameter."""
        return self(jnp.ones((1, 1), jnp.int32))

    def hidden(
        self,
        decoder_input_tokens: jax.Array,
        decoder_target_tokens: jax.Array | None = None,
        *,
        decoder_segment_ids: jax.Array | None = None,
        decoder_positions: jax.Array | None = None,
        decoder_causal_attention: jax.Array | None = None,
        deterministic: bool = True,
    ) -> jax.Array:
        """What `__call__` computes before the output projection: [B, L, E].

        All arrays are int32 [B, L], under the names of SeqIO's decoder-only feature converters.

        Args:
          decoder_input_tokens: the rows' tokens.
          decoder_target_tokens: 0 at padding, where there are no segment ids; no other use is made of them.
          decoder_segment_ids: which packed example a token is of; attention stays inside. They alone then tell padding.
          decoder_positions: places in the example; by default in the row, which differs in no number but rounding.
          decoder_causal_attention: 1 where positions see each other both ways, as a prefix; causal by default.
          deterministic: False drops, and wants `rngs={"dropout": key}`.
        """
        length = decoder_input_tokens.shape[1]
        if decoder_positions is None:
            decoder_positions = jnp.arange(length)[None]
        mask_of = partial(
            masks.causal_mask,
            length,
            decoder_target_tokens,
            decoder_segment_ids,
            decoder_causal_attention,
        )
        embedded = self._embedded(decoder_input_tokens)
        return self.decoder(embedded, decoder_positions, mask_of, deterministic)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., E] -> float32 [..., V]. Operands have the activations' dtype, sums and result are float32."""
        cfg = self.config
        if cfg.logits_via_embedding:
            table = self.token_embedder.embedding.astype(hidden.dtype)
            logits = products.matmul(hidden, table.T, jnp.float32)
        else:
            logits = self.decoder.project_logits(hidden)
        logits = logits if cfg.logit_scale == 1.0 else logits * cfg.logit_scale
        if cfg.final_softcap is not None:
            logits = cfg.final_softcap * jnp.tanh(logits / cfg.final_softcap)
        return constrain(logits, "batch", *["length"] * (logits.ndim - 2), "vocab")

    def prefill(
        self, prompt: jax.Array, lengths: jax.Array | None = None, *, both_ways: bool = False
    ) -> tuple[jax.Array, Prompt]:
        """Reads prompts, all but the last token of each, which is what the first step is given.

        Args:
          prompt: int32 [B, L], padded at the end.
          lengths: int32 [B], real tokens of each row; by default up to the last that is not 0.
          both_ways: the whole prompt is a prefix whose tokens see each other, as where
            `decoder_causal_attention` was 1.

        Returns:
          The last token of each prompt, [B], and what steps need of those before.
        """
        width = prompt.shape[1]
        places = jnp.arange(width)
        if lengths is None:
            lengths = jnp.max(jnp.where(prompt != 0, places + 1, 0), axis=1)
        lengths = jnp.clip(lengths.astype(jnp.int32), 1, width)
        inside = (places < lengths[:, None]).astype(jnp.int32)
        # Segment 0 is what lies behind a prompt: nothing before it looks there.
        mask_of = partial(masks.causal_mask, width, None, inside, inside if both_ways else None)
        key_values = self.decoder.prefill(self._embedded(prompt), places[None], mask_of)
        last = jnp.take_along_axis(prompt, lengths[:, None] - 1, axis=1)[:, 0]
        return last, Prompt(key_values, lengths - 1)

    def empty_cache(self, rows: int, max_length: int, beams: int = 1) -> Cache:
        """Zeroed keys and values of an answer: for each layer a pair of [rows, Hkv, max_length*beams, D]."""
        cfg = self.config
        shape = (rows, cfg.num_kv_heads, max_length * beams, cfg.head_dim)
        return decode_state.zeros(cfg.num_layers, shape, cfg.dtype)

    def step(
        self,
        tokens: jax.Array,
        index: jax.Array,
        cache: Cache,
        prompt: Prompt,
        origin: jax.Array | None = None,
    ) -> tuple[jax.Array, Cache]:
        """One position of every row: tokens at `index` -> logits of the next token, and the new cache.

        `index` counts the answer's positions from 0, where the prompt's last token stands: a scalar, or int32 [B] with
        a position for each row. A row sees its cache up to its own position alone, so a row that starts over at 0
        needs no clean cache.

        Tokens are [B], logits then [B, V]; or [B, n], n beams of each row, logits then [B, n, V]. Beams never move in
        the cache: slot b of position t keeps what beam b had there at step t, and a beam finds its own past by
        `origin`, int32 [B, n, T], the slot of each position. So choosing new beams copies a small table rather than the
        cache, and a row's beams read its cache, like its prompt's keys and values, once for all.
        """
        embedded = self._embedded(tokens.reshape(tokens.shape[0], -1))
        hidden, cache = self.decoder.step(embedded, index, cache, prompt, origin)
        return self.logits(hidden if tokens.ndim == 2 else hidden[:, 0]), cache

    def _embedded(self, tokens: jax.Array) -> jax.Array:
        """[B, L] -> [B, L, E]."""
        embedded = self.token_embedder(tokens)
        if not self.config.embed_scale:
            return embedded
        # Rounded first, as Gemma was trained: in bfloat16, 55.5 for the square root of 3072.
        return embedded * jnp.asarray(np.sqrt(self.config.emb_dim), embedded.dtype)
