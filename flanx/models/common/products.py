"""The two products where the time goes, with gradients written out.

Forward, both are what one would write anyway. Backward, automatic differentiation gives XLA's CPU compiler transposed
operands, which it then copies element by element, and a bias gradient that it sums column by column. On two cores the
feed-forward block took 2.3 times as long, and that sum was half of an attention over 512 positions. Stated in the order
that matrix products want, nothing is copied; and attention keeps its weights for the backward pass in the activations'
dtype rather than in float32. Only reverse-mode differentiation is defined.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike

from flanx.models.common import row_attention
from flanx.sharding.constraints import one_cpu

Pair = tuple[jax.Array, jax.Array]

IN_CACHE = 1 << 21  # float32 logits that a CPU's last cache holds beside what made them, 8 MB
KEPT = 1 << 22  # most weights of an attention that a CPU keeps for the backward pass, 16 MB


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: jax.Array, kernel: jax.Array, dtype: DTypeLike | None = None) -> jax.Array:
    """[..., inputs] @ [inputs, outputs] -> [..., outputs] in `dtype`, or that of `x`.

    Both operands have the dtype of `x`. A result of another dtype is summed in it, and its gradient is cast back
    before the products of the backward pass.
    """
    return _matmul(x, kernel, dtype)


def _matmul(x: jax.Array, kernel: jax.Array, dtype: DTypeLike | None) -> jax.Array:
    dimensions = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(x, kernel, dimensions, preferred_element_type=dtype)


def _matmul_forward(
    x: jax.Array, kernel: jax.Array, dtype: DTypeLike | None
) -> tuple[jax.Array, Pair]:
    # Not `matmul` itself: a remat policy that keeps products would not see the product inside it.
    return _matmul(x, kernel, dtype), (x, kernel)


def _matmul_backward(dtype: DTypeLike | None, saved: Pair, grad: jax.Array) -> Pair:
    x, kernel = saved
    grad = grad.astype(x.dtype)
    # As two plain matrices: contracted over several axes, the operands would be transposed first.
    x_rows, grad_rows = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    return (
        lax.dot_general(grad, kernel, (((x.ndim - 1,), (1,)), ((), ()))),
        lax.dot_general(x_rows, grad_rows, (((0,), (0,)), ((), ()))),
    )


matmul.defvjp(_matmul_forward, _matmul_backward)


@jax.custom_vjp
def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, mask: jax.Array
) -> jax.Array:
    """`softmax(query key^T + bias + mask) value`, without 1/sqrt(d).

    Args:
      query: [B, H, Q, D].
      key: [B, H or fewer, K, D]: with fewer heads, each serves a group of query heads, one after the other.
      value: as `key`.
      bias: float32 [1, H, Q, K], the same for all rows of the batch, or None.
      mask: float32 broadcastable to [B, H, Q, K]; it gets no gradient.

    Returns:
      [B, H, Q, D] in the dtype of `query`. Logits and softmax are float32.
    """
    rows, heads, queries, _ = query.shape

    def together(query, key, value, mask):
        return _attend(query, key, value, bias, mask)[0]

    def row_by_row(query, key, value, mask):
        masks = jnp.broadcast_to(mask, (rows, *mask.shape[1:]))
        return lax.map(lambda row: together(*(x[None] for x in row))[0], (query, key, value, masks))

    if rows == 1 or rows * heads * queries * key.shape[2] <= IN_CACHE:
        return together(query, key, value, mask)
    # Not differentiated, nothing but the result is kept; a CPU then does well to finish with the logits of a row while
    # they are in its cache. Eight rows of 512 positions took 0.6 of the time.
    return lax.platform_dependent(query, key, value, mask, cpu=row_by_row, default=together)


def _attend(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, mask: jax.Array
) -> Pair:
    logits = by_heads(query, key, 3, jnp.float32)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(logits + mask, axis=-1).astype(query.dtype)
    return by_heads(weights, value, 2), weights


def _attention_forward(query, key, value, bias, mask):
    rows, heads, queries, _ = query.shape
    if rows > 1 and rows * heads * queries * key.shape[2] > KEPT and one_cpu():
        mixed, log_z = row_attention.forward(query, key, value, bias, mask)
        return mixed, (query, key, value, bias, mask, mixed, log_z)
    mixed, weights = _attend(query, key, value, bias, mask)
    # Named here, where it is the backward pass's too: named outside, the one that is kept would be another.
    mixed = checkpoint_name(mixed, "attention")
    return mixed, (query, key, value, weights, mixed, bias is not None)


def _attention_backward(saved, grad):
    if len(saved) == 7:
        return row_attention.backward(saved, grad)
    query, key, value, weights, mixed, has_bias = saved
    # d softmax: w * (dw - sum(w dw)), and sum over keys of w dw is the product of output and its gradient.
    inner = jnp.sum(mixed.astype(jnp.float32) * grad.astype(jnp.float32), axis=-1, keepdims=True)
    grad_logits = weights.astype(jnp.float32) * (by_heads(grad, value, 3, jnp.float32) - inner)
    grad_bias = None
    if has_bias:
        # The sum over the batch as a product with ones, which XLA's CPU compiler does thirty times faster.
        ones = jnp.ones((grad_logits.shape[0],), jnp.float32)
        grad_bias = jnp.einsum("b,bhqk->hqk", ones, grad_logits, precision=lax.Precision.HIGHEST)[
            None
        ]
    grad_logits = grad_logits.astype(query.dtype)
    heads = key.shape[1]
    return (
        by_heads(grad_logits, key, 2),
        _batched(_joined(grad_logits, heads), _joined(query, heads), 2, 2),
        _batched(_joined(weights, heads), _joined(grad, heads), 2, 2),
        grad_bias,
        None,
    )


attention.defvjp(_attention_forward, _attention_backward)


@partial(jax.checkpoint, static_argnums=(4,))
def capped_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array, softcap: float
) -> jax.Array:
    """`attention` whose logits become c tanh(logits / c) before the mask (Gemma 2); its backward pass makes them
    again, for the slope of the cap needs them."""
    logits = softcap * jnp.tanh(by_heads(query, key, 3, jnp.float32) / softcap)
    weights = jax.nn.softmax(logits + mask, axis=-1).astype(query.dtype)
    return by_heads(weights, value, 2)


def attention_over(
    query: jax.Array,
    parts: Sequence[tuple[jax.Array, jax.Array, jax.Array]],
    softcap: float | None = None,
) -> jax.Array:
    """Attention over keys that lie in several arrays, as if they were one; no gradient is defined.

    Args:
      query: [B, H, Q, D].
      parts: keys and values [B, H or fewer, K, D] and a mask [B or 1, 1, Q or 1, K], each of its own length K.
      softcap: as `capped_attention` has it.

    Returns:
      [B, H, Q, D].
    """
    logits = [by_heads(query, key, 3, jnp.float32) for key, _, _ in parts]
    if softcap is not None:
        logits = [softcap * jnp.tanh(part / softcap) for part in logits]
    masked = [part + mask for part, (_, _, mask) in zip(logits, parts, strict=True)]
    weights = jax.nn.softmax(jnp.concatenate(masked, axis=-1), axis=-1).astype(query.dtype)
    mixed, start = jnp.zeros(query.shape, jnp.float32), 0
    for key, value, _ in parts:
        part = weights[..., start : start + key.shape[2]]
        mixed = mixed + by_heads(part, value, 2, jnp.float32)
        start += key.shape[2]
    return mixed.astype(query.dtype)


def by_heads(x: jax.Array, y: jax.Array, y_axis: int, dtype: DTypeLike | None = None) -> jax.Array:
    """Matrix products for each row and head: x [B, H, Q, N] with y [B, H, ..] or, where heads of x share one, fewer.

    The last axis of x and `y_axis` of y are contracted. Shared heads are never copied.
    """
    rows, heads, length, width = x.shape
    if heads == y.shape[1]:
        return _batched(x, y, 3, y_axis, dtype)
    grouped = x.reshape(rows, y.shape[1], heads // y.shape[1], length, width)
    dimensions = (((4,), (y_axis,)), ((0, 1), (0, 1)))
    product = lax.dot_general(grouped, y, dimensions, preferred_element_type=dtype)
    return product.reshape(rows, heads, length, -1)


def _joined(x: jax.Array, heads: int) -> jax.Array:
    """[B, H, Q, N] with the queries of heads that share keys laid end to end: [B, `heads`, ..., N]."""
    return x if x.shape[1] == heads else x.reshape(x.shape[0], heads, -1, x.shape[3])


def _batched(
    x: jax.Array, y: jax.Array, x_axis: int, y_axis: int, dtype: DTypeLike | None = None
) -> jax.Array:
    """Matrix products over the last two axes for each row and head, contracting one axis of each."""
    dimensions = (((x_axis,), (y_axis,)), ((0, 1), (0, 1)))
    return lax.dot_general(x, y, dimensions, preferred_element_type=dtype)
