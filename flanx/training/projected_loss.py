"""Output projection and cross-entropy together, a part of the targets at a time.

Float32 logits are by far the largest array of a T5 step: 32,128 numbers a target token, where the layers keep a few
thousand. Cut along the length, they are there for one part alone. Each part's gradients are made while its logits are
at hand, for by then everything that they depend on is known, so nothing is computed twice; what is kept for the
backward pass has the size of the hidden states and of the kernel. (The idea of a loss fused with its projection is
that of Liger Kernel, arXiv 2410.10989, section 3.2.)
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from flanx.models.common.cross_entropy import TokenLoss, loss_of_logits, slope
from flanx.models.common.projection import Projection
from flanx.sharding.constraints import constrain
from flanx.training.config import LossConfig

# Most float32 logits of a part, in bytes on one device. On an accelerator some two thousand tokens of T5's vocabulary:
# enough for the products to outweigh adding up the kernel's gradient. On a CPU what lies in a part is read from its
# cache again.
PART = {"cpu": 32 << 20}
PART_ELSEWHERE = 256 << 20


class _How(NamedTuple):
    """Everything about the loss that is no array."""

    vocab_axis: int
    scale: float
    softcap: float | None
    z_loss: float
    label_smoothing: float
    parts: int


def projected_loss(
    projection: Projection, targets: jax.Array, weights: jax.Array, loss: LossConfig, parts: int = 1
) -> tuple[jax.Array, TokenLoss]:
    """Weighted sum of the cross-entropy of each target, and what `token_loss` says of each.

    Args:
      projection: hidden states [B, L, E] and the kernel.
      targets: int32 [B, L].
      weights: float32 [B, L].
      loss: z-loss and label smoothing.
      parts: into how many parts the length is cut, at most L.

    Returns:
      float32 scalar, with gradients for hidden states and kernel alone; and per-token results [B, L], without any.
    """
    how = _How(
        projection.vocab_axis,
        projection.scale,
        projection.softcap,
        loss.z_loss,
        loss.label_smoothing,
        max(parts, 1),
    )
    total, each = _projected(projection.hidden, projection.kernel, targets, weights, how)
    return total, jax.tree.map(lax.stop_gradient, TokenLoss(*each))


def parts_of(
    loss: LossConfig, rows: int, length: int, vocab_size: int, mesh: Mesh | None = None
) -> int:
    """Into how many parts the targets are cut: what `loss.chunks` says, or as few as a part's logits allow.

    Args:
      loss: the setting.
      rows: of the batch, or of a microbatch.
      length: of the targets.
      vocab_size: columns of the logits.
      mesh: devices that share rows and vocabulary; None for one.
    """
    if loss.chunks is not None:
        return min(loss.chunks, length)
    sizes: Any = {} if mesh is None else mesh.shape
    platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
    shared = sizes.get("replica", 1) * sizes.get("data", 1)
    on_one = math.ceil(rows / shared) * length * math.ceil(vocab_size / sizes.get("model", 1))
    return min(max(math.ceil(4 * on_one / PART.get(platform, PART_ELSEWHERE)), 1), length)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _projected(
    hidden: jax.Array, kernel: jax.Array, targets: jax.Array, weights: jax.Array, how: _How
) -> tuple[jax.Array, TokenLoss]:
    used = kernel.astype(hidden.dtype)

    def part(_: None, cells: Any) -> tuple[None, TokenLoss]:
        h, t, _ = cells
        return None, loss_of_logits(_logits(h, used, how), t, how.z_loss, how.label_smoothing)[0]

    _, each = _over_parts(part, None, (hidden, targets, weights), how.parts)
    return jnp.sum(each.loss * weights), each


def _forward(hidden: Any, kernel: Any, targets: Any, weights: Any, how: _How) -> Any:
    used = kernel.astype(hidden.dtype)

    def part(grad_kernel: jax.Array, cells: Any) -> tuple[jax.Array, Any]:
        h, t, w = cells
        logits = _logits(h, used, how)
        each, log_z = loss_of_logits(logits, t, how.z_loss, how.label_smoothing)
        grad = slope(logits, t, log_z, how.z_loss, how.label_smoothing)
        if how.softcap is not None:  # d c tanh(l / c) = 1 - tanh(l / c)^2
            grad = grad * (1.0 - jnp.square(logits / how.softcap))
        grad = (grad * (w * how.scale)[..., None]).astype(h.dtype)
        return grad_kernel + _kernel_gradient(h, grad, how), (
            each,
            _hidden_gradient(grad, used, how),
        )

    start = _as_parameter(jnp.zeros(kernel.shape, jnp.float32), how)
    grad_kernel, (each, grad_hidden) = _over_parts(
        part, start, (hidden, targets, weights), how.parts
    )
    return (jnp.sum(each.loss * weights), each), (grad_hidden, grad_kernel)


def _backward(how: _How, gradients: Any, cotangents: Any) -> Any:
    grad_hidden, grad_kernel = gradients
    factor = cotangents[0]
    return factor.astype(grad_hidden.dtype) * grad_hidden, factor * grad_kernel, None, None


_projected.defvjp(_forward, _backward)


def _over_parts(part: Any, carry: Any, cells: Any, parts: int) -> tuple[Any, Any]:
    """`part(carry, cells) -> (carry, results)` over arrays [B, L, ...] cut along L; results are put together again.

    The rows of a part are all rows of the batch, so that however these lie over devices, every device has its share of
    each part. Cells beyond the end have weight 0.
    """
    if parts == 1:
        return part(carry, cells)
    length = cells[0].shape[1]
    width = math.ceil(length / parts)
    parts = math.ceil(length / width)

    def cut(x: jax.Array) -> jax.Array:
        x = jnp.pad(x, [(0, 0), (0, parts * width - length)] + [(0, 0)] * (x.ndim - 2))
        return x.reshape(x.shape[0], parts, width, *x.shape[2:]).swapaxes(0, 1)

    def join(x: jax.Array) -> jax.Array:
        x = x.swapaxes(0, 1)
        return x.reshape(x.shape[0], parts * width, *x.shape[3:])[:, :length]

    carry, results = lax.scan(part, carry, jax.tree.map(cut, cells))
    return carry, jax.tree.map(join, results)


def _logits(hidden: jax.Array, kernel: jax.Array, how: _How) -> jax.Array:
    """[B, l, E] -> float32 [B, l, V]."""
    dimensions = (((2,), (1 - how.vocab_axis,)), ((), ()))
    hidden = constrain(hidden, "batch", "length", "width")
    logits = lax.dot_general(hidden, kernel, dimensions, preferred_element_type=jnp.float32)
    logits = constrain(logits, "batch", "length", "vocab")
    logits = logits if how.scale == 1.0 else logits * how.scale
    return logits if how.softcap is None else how.softcap * jnp.tanh(logits / how.softcap)


def _hidden_gradient(grad: jax.Array, kernel: jax.Array, how: _How) -> jax.Array:
    """[B, l, V] -> [B, l, E]."""
    return lax.dot_general(grad, kernel, (((2,), (how.vocab_axis,)), ((), ())))


def _kernel_gradient(hidden: jax.Array, grad: jax.Array, how: _How) -> jax.Array:
    """float32, in the kernel's shape."""
    # As two plain matrices: contracted over several axes, a CPU would transpose them first.
    left, right = hidden.reshape(-1, hidden.shape[-1]), grad.reshape(-1, grad.shape[-1])
    if how.vocab_axis == 0:
        left, right = right, left
    dimensions = (((0,), (0,)), ((), ()))
    product = lax.dot_general(left, right, dimensions, preferred_element_type=jnp.float32)
    return _as_parameter(product, how)


def _as_parameter(kernel: jax.Array, how: _How) -> jax.Array:
    """Laid out as the kernel itself, so that what devices add up is no larger than what each keeps."""
    return constrain(kernel, *(("vocab", "embed") if how.vocab_axis == 0 else ("embed", "vocab")))
