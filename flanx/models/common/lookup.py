"""Token vectors by gather, with the gradient summed in float32 where the table lies.

On a mesh the order matters. Left alone, the compiler looks up in a table that is spread over its width. Each device
then has the tokens of all with a part of that width, and for some meshes the way back leads over the whole batch on
every device. Here the table goes to the rows instead: one more kernel to gather, whatever the batch.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flanx.sharding.constraints import constrain


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def lookup(table: jax.Array, tokens: jax.Array, dtype: DTypeLike) -> jax.Array:
    """float32 [V, E] and int32 [B, L] -> [B, L, E] in `dtype`."""
    used = constrain(table.astype(dtype), "vocab", "width")
    return constrain(jnp.take(used, tokens, axis=0), "batch", "length", "width")


def _forward(table: jax.Array, tokens: jax.Array, dtype: DTypeLike):
    return lookup(table, tokens, dtype), (table, tokens)


def _backward(dtype: DTypeLike, saved: tuple[jax.Array, jax.Array], grad: jax.Array):
    table, tokens = saved
    grad = constrain(grad.astype(jnp.float32), "batch", "length", "width")
    summed = jnp.zeros_like(table).at[tokens].add(grad, mode="drop")
    return constrain(constrain(summed, "vocab", "width"), "vocab", "embed"), None


lookup.defvjp(_forward, _backward)
