"""NVIDIA's fused attention, for the shapes and types that it takes.

It never writes the logits to memory: a row's softmax is made while its products are, and made again for the backward
pass. T5 asks three things of it that other models do not: no 1/sqrt(d) (scale 1), a bias on the logits with a gradient,
and masks that no length describes (packed rows), which are added into that bias.
"""

import functools
from collections.abc import Iterable
from typing import Any

import jax

from flanx.errors import UserError
from flanx.models.config import ModelConfig
from flanx.sharding import constraints


@functools.cache
def on_nvidia() -> bool:
    """Whether programs are compiled for NVIDIA GPUs; starts JAX's backend."""
    from jax.extend import backend

    return "cuda" in backend.get_backend().platform_version


def obstacle(query: jax.Array, key: jax.Array, mask: jax.Array) -> str | None:
    """What keeps the kernel from this attention, or None. Arrays as `attention` has them.

    Conditions of cuDNN 9 (jax 0.10, `jax._src.cudnn.fused_attention_stablehlo`): bfloat16, heads of at most 128 that
    are a multiple of 8 (Hopper takes 256; T5 has 64 or 128), and with a bias that has a gradient, even lengths. A bias
    must have a line for each query, which the mask of one decoding step, or of several rows that share keys, has not.
    """
    queries, keys = query.shape[2], key.shape[2]
    shapes = _obstacle(str(query.dtype), query.shape[3], queries, keys)
    if shapes is None and mask.shape[2:] != (queries, keys):
        return f"a mask of {mask.shape[2]} x {mask.shape[3]} for {queries} queries and {keys} keys"
    # A GPU at hand is of no use to a program for other devices, a TPU slice that is planned for, say.
    fits = constraints.platform() in (None, "gpu") and on_nvidia()
    return shapes or (None if fits else "no NVIDIA GPU")


def check(config: ModelConfig, lengths: Iterable[int], platform: str) -> None:
    """Refuses `attention="cudnn"` where training on devices of `platform` could not use it.

    Evaluation and decoding take XLA's attention wherever the kernel's conditions do not hold, whatever is asked for: a
    model trained with the kernel must be readable everywhere.

    Raises:
      UserError: naming the condition.
    """
    if config.attention != "cudnn":
        return
    found = _obstacle(config.dtype, config.head_dim, *lengths)
    if platform != "gpu" or not on_nvidia():
        found = f"the devices are {platform.upper()}s, not NVIDIA GPUs"
    if found is not None:
        raise UserError(
            f"{type(config).__name__}.attention = 'cudnn' cannot be used here ({found}): set it to 'auto', which takes "
            "XLA then"
        )


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None, mask: jax.Array
) -> jax.Array:
    """What `products.attention` computes, by the fused kernel: [B, H, Q, D] -> [B, H, Q, D].

    Args:
      query: bfloat16 [B, H, Q, D].
      key: bfloat16 [B, H, K, D].
      value: bfloat16 [B, H, K, D].
      bias: float32 [1, H, Q, K] or None.
      mask: float32 [B or 1, 1, Q, K].
    """
    # The kernel's own order is (batch, length, head, dim); what it is given was split off in that order.
    mixed = jax.nn.dot_product_attention(
        query.swapaxes(1, 2),
        key.swapaxes(1, 2),
        value.swapaxes(1, 2),
        bias=combined(bias, mask, query.dtype),
        scale=1.0,
        implementation="cudnn",
    )
    return mixed.swapaxes(1, 2)


def combined(bias: jax.Array | None, mask: jax.Array, dtype: Any) -> jax.Array:
    """Bias and mask as one: [B or 1, H or 1, Q, K] in `dtype`; a query that may look nowhere looks evenly.

    Added inside each layer, not once a stack: the gradient of a bias is then summed over rows as soon as it is there,
    in float32, and what the layers add up has the size of the position bias rather than the batch times that.
    """
    mask = jax.lax.stop_gradient(mask)
    return (mask if bias is None else bias + mask).astype(dtype)


def is_kernel(primitive: Any, *_: Any, **__: Any) -> bool:
    """A remat policy: keep what the kernel's forward pass gives (its output, and log(Z) of each query)."""
    return primitive.name.startswith("dot_product_attention_fwd")


def _obstacle(dtype: str, head_dim: int, *lengths: int) -> str | None:
    if dtype != "bfloat16":
        return f"activations are {dtype}, not bfloat16"
    if head_dim % 8 or head_dim > 128:
        return f"head_dim is {head_dim}, not a multiple of 8 up to 128"
    if any(length % 2 for length in lengths):
        return f"lengths {' and '.join(map(str, lengths))} are not all even"
    return None
