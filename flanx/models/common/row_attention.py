"""Attention for training on a CPU: a row of the batch at a time, both ways, so that its logits stay in cache.

Nothing of the size of the logits is kept: the backward pass makes a row's weights once more from the logarithm of the
softmax's denominator, as FlashAttention does (arXiv 2205.14135, section 3.1 and appendix B). At eight rows of 512
positions and six heads that is 0.85 of the processor time, 50 MB less a layer, and far less to fetch from memory,
which is what counts when other cores want it too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name


def forward(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Arguments and result as those of `products.attention`, and log(Z) of each query, float32 [B, H, Q]."""

    def row(cells: Any) -> tuple[jax.Array, jax.Array]:
        q, k, v, m = cells
        logits = _logits(q, k, bias, m)
        highest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - highest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        mixed = _of_group(weights.astype(v.dtype), v, 1, jnp.float32) / total
        return mixed.astype(q.dtype), (highest + jnp.log(total))[..., 0]

    mixed, log_z = lax.map(row, (query, key, value, _rows(mask, query)))
    return checkpoint_name(mixed, "attention"), checkpoint_name(log_z, "attention")


def backward(saved: Any, grad: jax.Array) -> tuple[Any, ...]:
    """Gradients of query, key, value and bias, and None for the mask.

    Args:
      saved: what `forward` was given and gave, in this order.
      grad: of its result, [B, H, Q, D].
    """
    query, key, value, bias, mask, mixed, log_z = saved

    def row(grad_bias: jax.Array | None, cells: Any) -> tuple[Any, Any]:
        q, k, v, m, out, z, g = cells
        weights = jnp.exp(_logits(q, k, bias, m) - z[..., None])
        inner = jnp.sum(out.astype(jnp.float32) * g.astype(jnp.float32), axis=-1, keepdims=True)
        grad_logits = weights * (_of_group(g, v, 2, jnp.float32) - inner)
        grad_bias = None if grad_bias is None else grad_bias + grad_logits
        low = grad_logits.astype(q.dtype)
        heads = k.shape[0]
        gradients = (
            _of_group(low, k, 1),
            _product(_joined(low, heads), _joined(q, heads), 1, 1),
            _product(_joined(weights.astype(q.dtype), heads), _joined(g, heads), 1, 1),
        )
        return grad_bias, gradients

    start = None if bias is None else jnp.zeros(bias.shape[1:], jnp.float32)
    cells = (query, key, value, _rows(mask, query), mixed, log_z, grad)
    grad_bias, gradients = lax.scan(row, start, cells)
    return *gradients, None if grad_bias is None else grad_bias[None], None


def _rows(mask: jax.Array, query: jax.Array) -> jax.Array:
    return jnp.broadcast_to(mask, (query.shape[0], *mask.shape[1:]))


def _logits(query: jax.Array, key: jax.Array, bias: jax.Array | None, mask: jax.Array) -> jax.Array:
    """Of one row: [H, Q, D], [H or fewer, K, D] -> float32 [H, Q, K]."""
    logits = _of_group(query, key, 2, jnp.float32)
    return (logits if bias is None else logits + bias[0]) + mask


def _of_group(x: jax.Array, y: jax.Array, y_axis: int, dtype: Any = None) -> jax.Array:
    """Products over the last axis of x [H, Q, N] for each head, heads of y shared by groups of those of x."""
    product = _product(_joined(x, y.shape[0]), y, 2, y_axis, dtype)
    return product.reshape(*x.shape[:2], -1)


def _joined(x: jax.Array, heads: int) -> jax.Array:
    """[H, Q, N] with the queries of heads that share keys laid end to end: [`heads`, ..., N]."""
    return x if x.shape[0] == heads else x.reshape(heads, -1, x.shape[2])


def _product(x: jax.Array, y: jax.Array, x_axis: int, y_axis: int, dtype: Any = None) -> jax.Array:
    """Matrix products for each head, contracting one axis of each."""
    dimensions = (((x_axis,), (y_axis,)), ((0,), (0,)))
    return lax.dot_general(x, y, dimensions, preferred_element_type=dtype)
