"""Log-probabilities of given continuations: rank classification without a run for every option."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


def score_continuations(
    model: Any, params: Any, prompt: jax.Array, options: jax.Array
) -> jax.Array:
    """How likely the model finds each option as the answer to its row's input.

    A prompt is read once, and all its options attend to the one set of its keys and values. Logits are made option by
    option, so that those of all options never stand in memory at once.
    Pure and jit-able: `jax.jit(score_continuations, static_argnums=0)`.

    Args:
      model: the network, scanned or not.
      params: its parameters.
      prompt: int32 [B, L], 0 for padding.
      options: int32 [B, N, Lt], each ended by EOS and padded with 0; an option all of padding scores 0.

    Returns:
      float32 [B, N], the sum of the log-probabilities of an option's tokens, EOS included.
    """
    apply: Callable[..., Any] = partial(model.apply, {"params": params})
    hidden = apply(prompt, options, method="answers_hidden")

    def option_scores(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden_bte, targets_bt = pair
        logits = apply(hidden_bte, method="logits")
        chosen = jnp.take_along_axis(logits, targets_bt[..., None], axis=-1)[..., 0]
        log_probs = chosen - jax.nn.logsumexp(logits, axis=-1)
        return jnp.sum(jnp.where(targets_bt > 0, log_probs, 0.0), axis=-1)

    return jax.lax.map(option_scores, (hidden.swapaxes(0, 1), options.swapaxes(0, 1))).T
