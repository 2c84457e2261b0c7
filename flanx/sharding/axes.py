"""Logical axes: arrays name their axes, and rules place the names on the axes of a mesh.

`RULES` has a line for each name, of parameters and of activations alike, and a column for each preset. A model family
names the axes of its parameters in its table (`flanx.models.common.parameters`), and those of its activations where it
makes them (`flanx.sharding.constraints`).
"""

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh, PartitionSpec

Places = str | tuple[str, ...] | None  # a mesh axis, several that share one dimension, or none
Rules = Mapping[str, Places]

# The order counts: where two axes of one array would lie on the same mesh axis, the upper one does. A column holds for
# any mesh: an axis of size 1 shards nothing, so that model=1 is pure data parallelism, model>1 is tensor parallelism,
# and the two columns are T5X's 1-D and 2-D parameters.
#
#   name              "replicated"          "fully_sharded"       what it is
RULES: tuple[tuple[str, Places, Places, str], ...] = (
    ("batch", ("replica", "data"), ("replica", "data"), "rows of a batch"),
    ("vocab", "model", "model", "tokens: rows of the embedding, columns of the logits"),
    ("heads", "model", "model", "attention heads"),
    ("kv_heads", "model", "model", "heads of keys and values that groups of query heads share"),
    ("joined_kv", "model", "model", "heads times their width, in attention's kernels"),
    ("joined_kv_heads", "model", "model", "the same of keys and values that groups share"),
    ("mlp", "model", "model", "inside of the feed-forward block"),
    ("embed", None, "data", "a parameter's side towards the residual stream"),
    ("width", None, None, "the residual stream itself, in activations"),
    ("length", None, None, "positions of a row"),
    ("kv", None, None, "width of one head"),
    ("norm", None, None, "scale of a norm, too small to spread"),
    ("relpos_buckets", None, None, "buckets of relative distance"),
    ("layers", None, None, "layers of a scanned stack"),
)
PRESETS: Mapping[str, Rules] = {
    "replicated": {name: places for name, places, _, _ in RULES},
    "fully_sharded": {name: places for name, _, places, _ in RULES},
}
NAMES = tuple(name for name, *_ in RULES)


def partition_spec(axes: tuple[str | None, ...], rules: Rules, mesh: Mesh) -> PartitionSpec:
    """Mesh axes of an array with these logical axes; a mesh axis that an upper name has, or that is absent, is passed
    over."""
    used: set[str] = set()
    spec: list[Places] = [None] * len(axes)
    named = [(NAMES.index(axis), at, axis) for at, axis in enumerate(axes) if axis is not None]
    for _, at, axis in sorted(named):
        chosen = tuple(
            x for x in as_tuple(rules.get(axis)) if x in mesh.axis_names and x not in used
        )
        used.update(chosen)
        spec[at] = chosen[0] if len(chosen) == 1 else (chosen or None)
    return PartitionSpec(*spec)


def fitting(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """`spec` without the mesh axes that do not divide their dimension: it lies whole along those."""

    def keep(places: Any, size: int) -> Places:
        kept: tuple[str, ...] = ()
        for name in as_tuple(places):
            if size % mesh.shape[name] == 0:
                kept += (name,)
                size //= mesh.shape[name]
        return kept[0] if len(kept) == 1 else (kept or None)

    return PartitionSpec(*(keep(places, size) for places, size in zip(spec, shape, strict=True)))


def as_tuple(places: Places) -> tuple[str, ...]:
    """Mesh axes as a tuple, however they are written."""
    return (places,) if isinstance(places, str) else tuple(places or ())
