"""What every network keeps between two tokens of an answer: the prompt, read once, and a cache that grows.

Decoding asks a network for three methods and knows nothing else of it:

    prefill(prompt [B, L]) -> (first tokens [B], Prompt)        what is said before the answer's first token
    empty_cache(rows, max_length, beams=1) -> cache             no answer yet
    step(tokens [B] or [B, n], index, cache, prompt, origin=None) -> (logits [B, V] or [B, n, V], cache)

Every array has the batch's rows as its first axis, and rows do not depend on each other: a row of one prompt and cache
can be put into another of the same sizes. Each layer's keys and values of the prompt are there once a row, however many
beams, options or samples answer it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

KeyValue = tuple[jax.Array, jax.Array]  # keys and values, each [B, H, L, D]
Cache = tuple[
    KeyValue, ...
]  # for each layer, of the answer: [B, H, T*n, D], beams of a position side by side


class Prompt(NamedTuple):
    """What steps read of the prompt and never change.

    Attributes:
      key_values: for each layer, its keys and values, [B, H, L, D] each.
      lengths: int32 [B], how many of the L positions of each row are real: the first ones.
    """

    key_values: tuple[KeyValue, ...]
    lengths: jax.Array


def zeros(layers: int, shape: tuple[int, int, int, int], dtype: str) -> tuple[KeyValue, ...]:
    """Keys and values of so many layers, [B, H, L, D] each, with nothing in them."""
    empty = jnp.zeros(shape, jnp.dtype(dtype))
    return tuple((empty, empty) for _ in range(layers))


def write_at(cache: jax.Array, new: jax.Array, index: jax.Array) -> jax.Array:
    """cache [B, H, T*n, D] with new [B, H, n, D] as position `index`: one for all rows, or int32 [B]."""
    start = index * new.shape[2]
    if jnp.ndim(index) == 0:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, start, axis=2)
    return jax.vmap(lambda row, one, at: jax.lax.dynamic_update_slice_in_dim(row, one, at, axis=1))(
        cache, new, start
    )
