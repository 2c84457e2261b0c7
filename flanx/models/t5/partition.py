"""Where every array of the network lies on a mesh: axes have names, and rules place the names on mesh axes.

Two tables say it all. `RULES` has a line for each name, of parameters and of activations alike, and a column for each
preset; `PARAMETERS` names the axes of every parameter, as T5X does. The network names the axes of its activations where
it makes them, with `constrain`, and knows nothing of meshes: on one device, or where nothing was `placed`, it does not
even mention them.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

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
    ("joined_kv", "model", "model", "heads times their width, in attention's kernels"),
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

# The first pattern that matches a parameter's whole path decides.
PARAMETERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"token_embedder/embedding", ("vocab", "embed")),
    (r".*/relpos_bias/rel_embedding", ("heads", "relpos_buckets")),
    (r".*attention/(query|key|value)/kernel", ("embed", "joined_kv")),
    (r".*attention/out/kernel", ("joined_kv", "embed")),
    (r".*/mlp/wi(_\d+)?/kernel", ("embed", "mlp")),
    (r".*/mlp/wo/kernel", ("mlp", "embed")),
    (r".*norm/scale", ("norm",)),
    (r"decoder/logits_dense/kernel", ("embed", "vocab")),
)

_placed: ContextVar[tuple[Mesh, Rules] | None] = ContextVar("placed", default=None)
_compiled_for: ContextVar[tuple[str, int] | None] = ContextVar("compiled_for", default=None)


@contextmanager
def placed(mesh: Mesh, rules: Rules) -> Iterator[None]:
    """While a function is traced inside, `constrain` places its activations on `mesh`.

    To be entered inside the function that is jitted: a compiled program then belongs to its mesh, whoever calls it.
    """
    token = _placed.set((mesh, rules) if mesh.size > 1 else None)
    with compiled_for(mesh.devices.flat[0].platform, mesh.size):
        try:
            yield
        finally:
            _placed.reset(token)


@contextmanager
def compiled_for(platform: str, devices: int = 1) -> Iterator[None]:
    """While a function is traced inside, `one_cpu` and `platform` speak of these devices, not this process's."""
    token = _compiled_for.set((platform, devices))
    try:
        yield
    finally:
        _compiled_for.reset(token)


def platform() -> str | None:
    """Of the devices that what is traced now will run on ("cpu", "gpu", "tpu"); None where nothing told."""
    here = _compiled_for.get()
    return None if here is None else here[0]


def one_cpu() -> bool:
    """Whether what is traced now will run on one CPU device."""
    here = _compiled_for.get()
    return jax.default_backend() == "cpu" if here is None else here == ("cpu", 1)


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """x, whose axes are of these names, laid out as the rules say; x itself where nothing is placed.

    Without such words the compiler is free to gather a batch, or to keep an activation whole on every device.

    Args:
      x: an activation.
      axes: a name of `RULES` for each axis of x; None for an axis that lies whole.
    """
    here = _placed.get()
    if here is None:
        return x
    if len(axes) != x.ndim:
        raise ValueError(f"{len(axes)} names {axes} for an array of shape {x.shape}")
    mesh, rules = here
    spec = fitting(partition_spec(axes, rules, mesh), x.shape, mesh)
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def constrain_params(tree: Any) -> Any:
    """A tree of the parameters' paths and shapes (gradients, say) laid out as they are."""
    here = _placed.get()
    if here is None:
        return tree
    mesh, rules = here

    def place(path: Any, x: jax.Array) -> jax.Array:
        spec = param_spec(path, x.shape, rules, mesh)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(place, tree)


def param_spec(path: Any, shape: tuple[int, ...], rules: Rules, mesh: Mesh) -> PartitionSpec:
    """Mesh axes of the parameter at a JAX key path."""
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return fitting(partition_spec(logical_axes(name, len(shape)), rules, mesh), shape, mesh)


def logical_axes(path: str, ndim: int) -> tuple[str, ...]:
    """Axis names of the parameter at `path` ("encoder/layers_0/mlp/wo/kernel").

    A parameter of a scanned stack has one more axis, "layers", in front. Raises ValueError for a path that the table
    does not know.
    """
    for pattern, axes in PARAMETERS:
        if re.fullmatch(pattern, path):
            if ndim == len(axes) + 1 and "/layers/" in path:
                return ("layers", *axes)
            if ndim == len(axes):
                return axes
            raise ValueError(f"parameter {path} has {ndim} axes; the table has {axes}")
    raise ValueError(f"parameter {path} is in no line of PARAMETERS")


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
