"""The bias that tells attention how far apart two tokens are: one learnt number per head and bucket of distance."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

EMBEDDING_INIT = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def bucket(
    distance: np.ndarray, *, bidirectional: bool, buckets: int, max_distance: int
) -> np.ndarray:
    """Bucket of `distance` = key position - query position (int array of any shape), as T5 has it.

    Half of the buckets hold one small distance each; the rest widen logarithmically up to `max_distance`, and the last
    takes all beyond. Bidirectional stacks give each side half of the buckets; a causal one lumps the future with
    distance 0 (T5X: `RelativePositionBiases._relative_position_bucket`).
    """
    behind = -distance
    start = np.zeros_like(distance)
    if bidirectional:
        buckets //= 2
        start = np.where(behind < 0, buckets, 0)
        behind = np.abs(behind)
    else:
        behind = np.maximum(behind, 0)
    exact = buckets // 2
    # float32 as in T5X: a float64 logarithm would put a few distances in the next bucket.
    growth = np.log(behind.astype(np.float32) / exact + np.finfo(np.float32).eps) / np.log(
        max_distance / exact
    )
    wide = np.minimum(exact + (growth * (buckets - exact)).astype(np.int32), buckets - 1)
    return (start + np.where(behind < exact, behind, wide)).astype(np.int32)


def toeplitz(values: jax.Array, queries: int, keys: int) -> jax.Array:
    """`result[..., q, k] = values[..., k - q + queries - 1]`: [..., queries + keys - 1] -> [..., queries, keys].

    Made of a tile, a slice and a reshape, so that its gradient is sums and pads rather than a scatter of
    queries * keys numbers into a few buckets.
    """
    period = queries + keys
    padded = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, 1)])
    tiled = jnp.broadcast_to(padded[..., None, :], (*values.shape[:-1], queries, period))
    flat = tiled.reshape(*values.shape[:-1], queries * period)
    skewed = flat[..., queries - 1 : queries - 1 + queries * (period - 1)]
    return skewed.reshape(*values.shape[:-1], queries, period - 1)[..., :keys]


class RelativePositionBias(nn.Module):
    """Bias of every (query, key) pair of a stack, computed once and shared by its layers.

    Distances are counted along the row. Packed rows need nothing else: inside one segment they equal the distances
    between the segment's own positions, and attention never crosses segments.
    """

    num_heads: int
    buckets: int
    max_distance: int
    bidirectional: bool

    def setup(self) -> None:
        self.rel_embedding = self.param(
            "rel_embedding", EMBEDDING_INIT, (self.num_heads, self.buckets), jnp.float32
        )

    def __call__(self, queries: int, keys: int) -> jax.Array:
        """float32 [1, H, queries, keys]."""
        values = self._of_distances(np.arange(-(queries - 1), keys))
        return toeplitz(values, queries, keys)[None]

    def at(self, index: jax.Array, keys: int) -> jax.Array:
        """Of queries at `index`, int32 [] or [B], to keys 0 to `keys` - 1: float32 [1 or B, H, 1, keys]."""
        # values[h, keys - 1 + distance], of which a query sees the window that starts at distance -index.
        values = self._of_distances(np.arange(-(keys - 1), keys))
        starts = keys - 1 - jnp.atleast_1d(index)
        windows = jax.vmap(lambda at: jax.lax.dynamic_slice_in_dim(values, at, keys, axis=1))
        return windows(starts)[:, :, None]

    def _of_distances(self, distance: np.ndarray) -> jax.Array:
        """float32 [H, distances]."""
        of_distance = bucket(
            distance,
            bidirectional=self.bidirectional,
            buckets=self.buckets,
            max_distance=self.max_distance,
        )
        # A product with a constant one-hot: exact at "highest" precision, and its gradient needs no scatter.
        one_hot = jnp.asarray(np.eye(self.buckets, dtype=np.float32)[:, of_distance])
        return jnp.matmul(self.rel_embedding, one_hot, precision=jax.lax.Precision.HIGHEST)
