"""Decoding in its simplest form, one token of every row a turn: what the engine's answers are held against."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flanx.decoding.requests import EOS_ID
from flanx.decoding.sampling import choose, likeliest, step_keys
from flanx.models.common.decode_state import Cache
from flanx.models.common.scanned import unrolled_model

# (logits float32 [B, V], step int32 []) -> tokens int32 [B], their log-probabilities float32 [B]
Choose = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class _Loop(NamedTuple):
    step: jax.Array  # int32 scalar, positions done
    token: jax.Array  # int32 [B], the last token of each row
    tokens: jax.Array  # int32 [B, T], 0 after the end
    scores: jax.Array  # float32 [B]
    done: jax.Array  # bool [B]
    cache: Cache


def token_by_token(
    model: Any,
    params: Any,
    prompt_tokens: jax.Array,
    max_length: int,
    choose: Choose,
    eos_id: int,
) -> tuple[jax.Array, jax.Array]:
    """Answers of up to `max_length` tokens, each token chosen by `choose`.

    Args:
      model: the network; with scanned layers, the parameters are taken apart first.
      params: its parameters.
      prompt_tokens: int32 [B, Li], 0 for padding.
      max_length: most tokens to produce, EOS included.
      choose: the next token of every row, and its log-probability.
      eos_id: the token that ends a row.

    Returns:
      tokens int32 [B, max_length], EOS included and 0 after it; and scores float32 [B], the sum of the tokens'
      log-probabilities, EOS included.
    """
    model, params = unrolled_model(model, params)
    apply: Callable[..., Any] = partial(model.apply, {"params": params})
    rows = prompt_tokens.shape[0]
    first, prompt = apply(prompt_tokens, method="prefill")

    def unfinished(loop: _Loop) -> jax.Array:
        return (loop.step < max_length) & ~jnp.all(loop.done)

    def advance(loop: _Loop) -> _Loop:
        logits, cache = apply(loop.token, loop.step, loop.cache, prompt, method="step")
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
            token=first,
            tokens=jnp.zeros((rows, max_length), jnp.int32),
            scores=jnp.zeros((rows,), jnp.float32),
            done=jnp.zeros((rows,), bool),
            cache=model.empty_cache(rows, max_length),
        ),
    )
    return loop.tokens, loop.scores


def greedy(
    model: Any,
    params: Any,
    prompt_tokens: jax.Array,
    max_length: int,
    *,
    eos_id: int = EOS_ID,
) -> tuple[jax.Array, jax.Array]:
    """The likeliest token at every step, until EOS or `max_length`.

    Pure and jit-able: `jax.jit(greedy, static_argnums=(0, 3))`.

    Args:
      model: the network; with scanned layers, the parameters are taken apart first.
      params: its parameters.
      prompt_tokens: int32 [B, Li], 0 for padding.
      max_length: most tokens to produce, EOS included.
      eos_id: the token that ends a row.

    Returns:
      tokens int32 [B, max_length], EOS included and 0 after it; and scores float32 [B], the sum of the tokens'
      log-probabilities, EOS included.
    """
    return token_by_token(
        model,
        params,
        prompt_tokens,
        max_length,
        lambda logits, step: likeliest(logits),
        eos_id,
    )


def sample(
    model: Any,
    params: Any,
    prompt_tokens: jax.Array,
    max_length: int,
    temperature: jax.Array,
    top_k: jax.Array,
    top_p: jax.Array,
    keys: jax.Array,
    *,
    eos_id: int = EOS_ID,
) -> tuple[jax.Array, jax.Array]:
    """Answers drawn token by token, each row with its own parameters, until EOS or `max_length`.

    What a row gets depends on its input, parameters and key alone. Pure and jit-able:
    `jax.jit(sample, static_argnums=(0, 3))`.

    Args:
      model: the network; with scanned layers, the parameters are taken apart first.
      params: its parameters.
      prompt_tokens: int32 [B, Li], 0 for padding.
      max_length: most tokens to produce, EOS included.
      temperature: float32 [B]; see `choose`, as for the next two.
      top_k: int32 [B].
      top_p: float32 [B].
      keys: [B] JAX keys; the position of a token is folded in.
      eos_id: the token that ends a row.

    Returns:
      tokens int32 [B, max_length], EOS included and 0 after it; and scores float32 [B], the sum of the tokens'
      log-probabilities under the model as it is, at temperature 1, EOS included.
    """
    return token_by_token(
        model,
        params,
        prompt_tokens,
        max_length,
        lambda logits, step: choose(logits, temperature, top_k, top_p, step_keys(keys, step)),
        eos_id,
    )
