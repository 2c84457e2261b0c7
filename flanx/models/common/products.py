"""The two products where the time goes, with gradients written out.

Forward, both are what one would write anyway. Backward, automatic differentiation gives XLA's CPU compiler transposed
operands, which it then copies element by element, and a bias gradient that it sums column by column. On two cores the
feed-forward block took 2.3 times as long, and that sum was half of an attention over 512 positions. Stated in the order
that matrix products want, nothing is copied; and attention keeps its weights for the backward pass in the activations'
dtype rather than in float32. Only reverse-mode differentiation is defined.
"""

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
      key: [B, H, K, D].
      value: [B, H, K, D].
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
    logits = _batched(query, key, 3, 3, jnp.float32)
    if bias is not None:
        logits = logits + bias
    weights = jax.nn.softmax(logits + mask, axis=-1).astype(query.dtype)
    return _batched(weights, value, 3, 2), weights


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
    grad_logits = weights.astype(jnp.float32) * (_batched(grad, value, 3, 3, jnp.float32) - inner)
    grad_bias = None
    if has_bias:
        # The sum over the batch as a product with ones, which XLA's CPU compiler does thirty times faster.
        ones = jnp.ones((grad_logits.shape[0],), jnp.float32)
        grad_bias = jnp.einsum("b,bhqk->hqk", ones, grad_logits, precision=lax.Precision.HIGHEST)[
            None
        ]
    grad_logits = grad_logits.astype(query.dtype)
    return (
        _batched(grad_logits, key, 3, 2),
        _batched(grad_logits, query, 2, 2),
        _batched(weights, grad, 2, 2),
        grad_bias,
        None,
    )


attention.defvjp(_attention_forward, _attention_backward)


def _batched(
    x: jax.Array, y: jax.Array, x_axis: int, y_axis: int, dtype: DTypeLike | None = None
) -> jax.Array:
    """Matrix products over the last two axes for each row and head, contracting one axis of each."""
    dimensions = (((x_axis,), (y_axis,)), ((0, 1), (0, 1)))
    return lax.dot_general(x, y, dimensions, preferred_element_type=dtype)
