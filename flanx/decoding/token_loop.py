"""The loop that greedy decoding and sampling share: one token of every row a turn, until all rows have ended.

The encoder runs once, and its keys and values for every decoder layer are computed once (`stacks.Memory`). The cache of
decoder self-attention is, for each layer, a pair of arrays [B, H, T, D]; step t writes row t and reads rows 0..t. The
loop ends at the first step after which every row has produced the end of its sequence.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flanx.models.common.scanned import unrolled_model
from flanx.models.t5.network import T5
from flanx.models.t5.stacks import KeyValue

EOS_ID = 1
START_ID = 0

# (logits float32 [B, V], step int32 []) -> tokens int32 [B], their log-probabilities float32 [B]
Choose = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class _Loop(NamedTuple):
    step: jax.Array  # int32 scalar, positions done
    token: jax.Array  # int32 [B], the last token of each row
    tokens: jax.Array  # int32 [B, T], 0 after the end
    scores: jax.Array  # float32 [B]
    done: jax.Array  # bool [B]
    cache: tuple[KeyValue, ...]


def token_by_token(
    model: T5,
    params: Any,
    encoder_input_tokens: jax.Array,
    max_length: int,
    choose: Choose,
    eos_id: int,
) -> tuple[jax.Array, jax.Array]:
    """Answers of up to `max_length` tokens, each token chosen by `choose`.

    Args:
      model: the network; with scanned layers, the parameters are taken apart first.
      params: its parameters.
      encoder_input_tokens: int32 [B, Li], 0 for padding.
      max_length: most tokens to produce, EOS included.
      choose: the next token of every row, and its log-probability.
      eos_id: the token that ends a row.

    Returns:
      tokens int32 [B, max_length], EOS included and 0 after it; and scores float32 [B], the sum of the tokens'
      log-probabilities, EOS included.
    """
    model, params = unrolled_model(model, params)
    apply: Callable[..., Any] = partial(model.apply, {"params": params})
    rows = encoder_input_tokens.shape[0]
    memory = apply(encoder_input_tokens, method="memory")

    def unfinished(loop: _Loop) -> jax.Array:
        return (loop.step < max_length) & ~jnp.all(loop.done)

    def advance(loop: _Loop) -> _Loop:
        logits, cache = apply(loop.token, loop.step, loop.cache, memory, method="decode_step")
        token, log_prob = choose(logits, loop.step)
        token = jnp.where(loop.done, 0, token)
        return _Loop(
            step=loop.step + 1,
            token=token,
            tokens=jax.lax.dynamic_update_slice_in_dim(
                loop.tokens, token[:, None], loop.step, axis=1
            ),
            scores=loop.scores + jnp.where(loop.done, 0.0, log_prob),
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
