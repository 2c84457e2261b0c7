"""Bytes of a state by arithmetic: shapes and shardings are all it takes."""

import math
from typing import Any

import jax


def bytes_on_one_device(tree: Any) -> int:
    """Of a tree of `jax.ShapeDtypeStruct` with shardings: what one device holds of it, padding left out."""
    return sum(leaf_bytes(leaf) for leaf in jax.tree.leaves(tree))


def leaf_bytes(leaf: Any) -> int:
    """One array's part on one device."""
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
    return math.prod(shape) * leaf.dtype.itemsize
