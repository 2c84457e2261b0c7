"""Dropout whose masks are shared along the length axis, drawn for a whole stack of layers at once.

T5X broadcasts its masks over the length too (`broadcast_dims=(-2,)`), so a mask is a vector a row, next to nothing to
draw or to keep. One draw for all layers instead of one for each use keeps the compiled program short, and lets a scan
over layers read its own masks as it reads its parameters.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from flanx.sharding.constraints import constrain


class Widths(NamedTuple):
    """What masks are drawn for, beside the stack's input.

    Attributes:
      rate: probability of dropping.
      heads: of keys and values: query heads that share a key drop it together.
      mlp: width inside the feed-forward block.
      grouped: whether there are fewer of those heads than of queries.
    """

    rate: float
    heads: int
    mlp: int
    grouped: bool = False


class AttentionDropout(NamedTuple):
    """Factors of one attention: 0 for what is dropped, 1 / (1 - rate) for what stays.

    Attributes:
      weights: [..., B, H, K, 1]. T5 drops a key for all queries alike, which is to drop that key's value.
      out: [..., B, 1, E], of the output.
    """

    weights: jax.Array
    out: jax.Array


class MlpDropout(NamedTuple):
    """Factors of one feed-forward block.

    Attributes:
      hidden: [..., B, 1, F], of the product of its branches.
      out: [..., B, 1, E], of the output.
    """

    hidden: jax.Array
    out: jax.Array


class LayerDropout(NamedTuple):
    """Factors of one layer, or with one more axis in front, of all layers of a stack."""

    self_attention: AttentionDropout
    cross_attention: AttentionDropout | None
    mlp: MlpDropout


class StackDropout(NamedTuple):
    """Factors of a whole stack; all None where nothing is dropped.

    Attributes:
      first: [B, 1, E], of the embedded tokens.
      layers: with a first axis of layers.
      last: [B, 1, E], of the normed output.
    """

    first: jax.Array | None = None
    layers: LayerDropout | None = None
    last: jax.Array | None = None


def scale(x: jax.Array, factors: jax.Array | None) -> jax.Array:
    """x times its factors, if there are any."""
    return x if factors is None else x * factors


def stack_dropout(
    key: jax.Array, widths: Widths, layers: int, x: jax.Array, memory_length: int | None = None
) -> StackDropout:
    """Factors for a stack of `layers` layers over x [B, L, E]; with `memory_length`, for one with cross-attention."""
    ends_key, layers_key = jax.random.split(key)
    rows, _, emb = x.shape
    ends = keep_factors(ends_key, widths.rate, (2, rows, 1, emb), x.dtype)
    first, last = constrain(ends, None, "batch", None, "width")
    return StackDropout(first, _layers_dropout(layers_key, widths, layers, x, memory_length), last)


def _layers_dropout(
    key: jax.Array,
    widths: Widths,
    layers: int,
    x: jax.Array,
    memory_length: int | None,
) -> LayerDropout:
    """One draw for everything, cut into the parts."""
    (rows, length, emb), heads = x.shape, widths.heads
    sizes = [heads * length, emb, widths.mlp, emb]
    if memory_length is not None:
        sizes += [heads * memory_length, emb]
    factors = keep_factors(key, widths.rate, (layers, rows, sum(sizes)), x.dtype)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    parts = [
        constrain(factors[..., start : start + size], "layers", "batch", None)
        for start, size in zip(starts, sizes, strict=True)
    ]

    heads_axis = "kv_heads" if widths.grouped else "heads"

    def attention(weights: jax.Array, out: jax.Array) -> AttentionDropout:
        weights = weights.reshape(layers, rows, heads, -1, 1)
        weights = constrain(weights, "layers", "batch", heads_axis, "length", None)
        return AttentionDropout(weights, out[:, :, None])

    return LayerDropout(
        self_attention=attention(parts[0], parts[1]),
        cross_attention=attention(parts[4], parts[5]) if memory_length is not None else None,
        mlp=MlpDropout(parts[2][:, :, None], parts[3][:, :, None]),
    )


def keep_factors(
    key: jax.Array, rate: float, shape: tuple[int, ...], dtype: DTypeLike
) -> jax.Array:
    """0 with probability `rate`, else 1 / (1 - rate)."""
    keep = jax.random.bernoulli(key, 1.0 - rate, shape)
    return jnp.where(keep, 1.0 / (1.0 - rate), 0.0).astype(dtype)
