"""Greedy decoding with a key-value cache.

The encoder runs once, and its keys and values for every decoder layer are computed once (`stacks.Memory`). The cache of
decoder self-attention is, for each layer, a pair of arrays [B, H, T, D]; step t writes row t and reads rows 0..t. The
loop ends at the first step after which every row has produced the end of its sequence.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flanx.models.t5.network import T5
from flanx.models.t5.scanned import unrolled_model
from flanx.models.t5.stacks import KeyValue

EOS_ID = 1
START_ID = 0


class _Loop(NamedTuple):
    step: jax.Array  # int32 scalar, positions done
    token: jax.Array  # int32 [B], the last token of each row
    tokens: jax.Array  # int32 [B, T], 0 after the end
    scores: jax.Array  # float32 [B]
    done: jax.Array  # bool [B]
    cache: tuple[KeyValue, ...]


def greedy(
    model: T5,
    params: Any,
    encoder_input_tokens: jax.Array,
    max_length: int,
    *,
    eos_id: int = EOS_ID,
) -> tuple[jax.Array, jax.Array]:
    """The likeliest token at every step, until EOS or `max_length`.

    Pure and jit-able: `jax.jit(greedy, static_argnums=(0, 3))`.

    Args:
      model: the network; with scanned layers, the parameters are taken apart first.
      params: its parameters.
      encoder_input_tokens: int32 [B, Li], 0 for padding.
      max_length: most tokens to produce, EOS included.
      eos_id: the token that ends a row.

    Returns:
      tokens int32 [B, max_length], EOS included and 0 after it; and scores float32 [B], the sum of the tokens'
      log-probabilities, EOS included.
    """
    model, params = unrolled_model(model, params)
    apply: Callable[..., Any] = partial(model.apply, {"params": params})
    rows = encoder_input_tokens.shape[0]
    memory = apply(encoder_input_tokens, max_length, method="memory")

    def unfinished(loop: _Loop) -> jax.Array:
        return (loop.step < max_length) & ~jnp.all(loop.done)

    def advance(loop: _Loop) -> _Loop:
        logits, cache = apply(loop.token, loop.step, loop.cache, memory, method="decode_step")
        best = jnp.max(logits, axis=-1)
        token = jnp.where(loop.done, 0, jnp.argmax(logits, axis=-1).astype(jnp.int32))
        gain = jnp.where(loop.done, 0.0, best - jax.nn.logsumexp(logits, axis=-1))
        return _Loop(
            step=loop.step + 1,
            token=token,
            tokens=jax.lax.dynamic_update_slice_in_dim(
                loop.tokens, token[:, None], loop.step, axis=1
            ),
            scores=loop.scores + gain,
            done=loop.done | (token == eos_id),
            cache=cache,
        )

    loop = jax.lax.while_loop(
        unfinished,
        advance,
        _Loop(
            step=jnp.int32(0),
            token=jnp.full((rows,), START_ID, jnp.int32),
            tokens=jnp.zeros((rows, max_length), jnp.int32),
            scores=jnp.zeros((rows,), jnp.float32),
            done=jnp.zeros((rows,), bool),
            cache=model.empty_cache(rows, max_length),
        ),
    )
    return loop.tokens, loop.scores
