"""Which token may look at which, as numbers to add to attention logits: 0 where it may, -1e10 where not.

Each mask is made once for a stack, float32 [B, 1, Q, K], and every layer adds the same array. Token 0 is padding.
With segment ids, attention also stays inside a segment; T5X applies both rules, and so does flanx.
"""

import jax
import jax.numpy as jnp

BLOCKED = -1e10


def encoder_mask(tokens: jax.Array, segment_ids: jax.Array | None) -> jax.Array:
    """Encoder self-attention: tokens [B, L], segment_ids [B, L] or None -> [B, 1, L, L]."""
    real = tokens > 0
    return _additive(real[:, :, None] & real[:, None, :], segment_ids, segment_ids)


def decoder_mask(
    length: int, target_tokens: jax.Array | None, segment_ids: jax.Array | None
) -> jax.Array:
    """Causal decoder self-attention -> [B or 1, 1, L, L].

    Without `target_tokens` nothing counts as padding, which changes no position before the padding.
    """
    allowed = jnp.tril(jnp.ones((1, length, length), bool))
    if target_tokens is not None:
        real = target_tokens > 0
        allowed = allowed & real[:, :, None] & real[:, None, :]
    return _additive(allowed, segment_ids, segment_ids)


def causal_mask(
    length: int,
    target_tokens: jax.Array | None,
    segment_ids: jax.Array | None,
    prefix: jax.Array | None,
    window: int | None = None,
) -> jax.Array:
    """Self-attention of a decoder without encoder -> [B or 1, 1, L, L].

    Where segment ids are given they alone tell padding, for token 0 may be a real one.

    Args:
      length: L.
      target_tokens: int32 [B, L], 0 at padding; None for rows without.
      segment_ids: int32 [B, L], 0 at padding.
      prefix: int32 [B, L], 1 where positions of a segment see each other both ways (SeqIO's
        `decoder_causal_attention`, as T5X's `make_decoder_mask` takes it).
      window: a key further away than `window` - 1 is not seen.
    """
    allowed = jnp.tril(jnp.ones((1, length, length), bool))
    if prefix is not None:
        inside = prefix > 0
        allowed = allowed | (inside[:, :, None] & inside[:, None, :])
    if window is not None:
        positions = jnp.arange(length)
        allowed = allowed & (jnp.abs(positions[:, None] - positions[None]) < window)
    if target_tokens is not None and segment_ids is None:
        real = target_tokens > 0
        allowed = allowed & real[:, :, None] & real[:, None, :]
    return _additive(allowed, segment_ids, segment_ids)


def prompt_mask(
    lengths: jax.Array, length: int, positions: jax.Array, window: int | None = None
) -> jax.Array:
    """One query of each row at `positions`, int32 [B], to a prompt of `lengths` real tokens -> [B, 1, 1, length]."""
    keys = jnp.arange(length)
    allowed = keys < lengths[:, None]
    if window is not None:
        allowed = allowed & (positions[:, None] - keys < window)
    return _additive(allowed[:, None, :], None, None)


def step_mask(index: jax.Array, length: int, window: int | None = None) -> jax.Array:
    """Causal self-attention of one query at `index`, int32 [] or [B] -> [1 or B, 1, 1, length]."""
    keys, at = jnp.arange(length), jnp.atleast_1d(index)[:, None]
    allowed = keys <= at
    if window is not None:
        allowed = allowed & (at - keys < window)
    return _additive(allowed[:, None, :], None, None)


def lengths_of(tokens: jax.Array) -> jax.Array:
    """int32 [B]: positions of each row up to the last that is no padding, tokens [B, L]."""
    return jnp.max(jnp.where(tokens > 0, jnp.arange(1, tokens.shape[1] + 1), 0), axis=1)


def lengths_mask(lengths: jax.Array, width: int) -> jax.Array:
    """The first `lengths` [B] positions of each row -> [B, 1, 1, width]."""
    return _additive((jnp.arange(width) < lengths[:, None])[:, None, :], None, None)


def beam_mask(origin: jax.Array) -> jax.Array:
    """Each beam's own past among that of all: origin int32 [B, n, T] -> [B, 1, n, T, n], 0 at the slot it names."""
    allowed = origin[..., None] == jnp.arange(origin.shape[1])
    return _additive(allowed, None, None)


def cross_mask(
    encoder_tokens: jax.Array,
    target_tokens: jax.Array | None,
    encoder_segment_ids: jax.Array | None,
    decoder_segment_ids: jax.Array | None,
) -> jax.Array:
    """Decoder to encoder -> [B, 1, Lt, Li], or [B, 1, 1, Li] where all of a row's queries see the same."""
    allowed = (encoder_tokens > 0)[:, None, :]
    if target_tokens is not None:
        allowed = allowed & (target_tokens > 0)[:, :, None]
    if encoder_segment_ids is None:
        decoder_segment_ids = None
    return _additive(allowed, decoder_segment_ids, encoder_segment_ids)


def _additive(
    allowed: jax.Array, query_segments: jax.Array | None, key_segments: jax.Array | None
) -> jax.Array:
    if query_segments is not None and key_segments is not None:
        allowed = allowed & (query_segments[:, :, None] == key_segments[:, None, :])
    return jnp.where(allowed, 0.0, BLOCKED).astype(jnp.float32)[:, None]
