"""Greedy decoding: the likeliest token at every step."""

from typing import Any

import jax

from flanx.decoding.sampling import likeliest
from flanx.decoding.token_loop import EOS_ID, START_ID, token_by_token
from flanx.models.t5.network import T5

__all__ = ["EOS_ID", "START_ID", "greedy"]


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
    return token_by_token(
        model,
        params,
        encoder_input_tokens,
        max_length,
        lambda logits, step: likeliest(logits),
        eos_id,
    )
