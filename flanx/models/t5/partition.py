"""Which mesh axis each axis of each parameter lies on: names first, then rules.

`LOGICAL_AXES` gives every parameter's axes a name, as T5X names them; a rule table then says on
which mesh axis a name lies. To shard a model differently, change rules; the network does not know of them.
"""

import re
from collections.abc import Mapping

from jax.sharding import Mesh, PartitionSpec

# The first pattern that matches a parameter's whole path decides.
LOGICAL_AXES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"token_embedder/embedding", ("vocab", "embed")),
    (r".*/relpos_bias/rel_embedding", ("heads", "relpos_buckets")),
    (r".*attention/(query|key|value)/kernel", ("embed", "joined_kv")),
    (r".*attention/out/kernel", ("joined_kv", "embed")),
    (r".*/mlp/wi(_\d+)?/kernel", ("embed", "mlp")),
    (r".*/mlp/wo/kernel", ("mlp", "embed")),
    (r".*norm/scale", ("embed",)),
    (r"decoder/logits_dense/kernel", ("embed", "vocab")),
)

Rules = Mapping[str, str | tuple[str, ...] | None]


def logical_axes(path: str, ndim: int) -> tuple[str, ...]:
    """Axis names of the parameter at `path` ("encoder/layers_0/mlp/wo/kernel").

    A parameter of a scanned stack has one more axis, "layers", in front. Raises ValueError for a path that the table
    does not know.
    """
    for pattern, axes in LOGICAL_AXES:
        if re.fullmatch(pattern, path):
            if ndim == len(axes) + 1 and "/layers/" in path:
                return ("layers", *axes)
            if ndim == len(axes):
                return axes
            raise ValueError(f"parameter {path} has {ndim} axes; the table has {axes}")
    raise ValueError(f"parameter {path} is in no line of LOGICAL_AXES")


def partition_spec(axes: tuple[str, ...], rules: Rules, mesh: Mesh) -> PartitionSpec:
    """Mesh axes of an array with these logical axes; a mesh axis that is used already, or absent, is passed over."""
    used: set[str] = set()
    spec: list[str | tuple[str, ...] | None] = []
    for axis in axes:
        wanted = rules.get(axis) or ()
        wanted = (wanted,) if isinstance(wanted, str) else wanted
        chosen = tuple(name for name in wanted if name in mesh.axis_names and name not in used)
        used.update(chosen)
        spec.append(chosen[0] if len(chosen) == 1 else (chosen or None))
    return PartitionSpec(*spec)
