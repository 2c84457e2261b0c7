"""A stack of like layers: modules one by one, or one compiled layer that a scan loops over stacked parameters."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from flanx.models.common import remat
from flanx.models.config import ModelConfig

Call = Callable[[Any, jax.Array, Any], jax.Array]


def make(layer: type[nn.Module], config: ModelConfig, count: int) -> Any:
    """Modules `layers_0`, `layers_1`, ...; or the one `layers` whose parameters scan stacks."""
    return layer(config) if config.scan_layers else [layer(config) for _ in range(count)]


def run(
    call: Call,
    layers: Any,
    x: jax.Array,
    per_layer: Any,
    config: ModelConfig,
    count: int,
    at: Callable[[int], Any] | None = None,
) -> jax.Array:
    """x through all layers.

    Args:
      call: `call(layer, x, own)` runs one layer with what is its own of `per_layer`.
      layers: what `make` gave.
      x: the stack's input.
      per_layer: a tree of arrays whose first axis is the layers, or None.
      config: the network's.
      count: number of layers.
      at: what is layer i's own where layers are not scanned; by default row i of each array of `per_layer`.
    """
    if config.remat != "none":
        # Inside a scan nothing can be merged across the loop's boundary, so the guard against it is not needed.
        call = nn.remat(call, policy=remat.policy(config), prevent_cse=not config.scan_layers)
    if not config.scan_layers:
        for index, layer in enumerate(layers):
            own = jax.tree.map(lambda a, i=index: a[i], per_layer) if at is None else at(index)
            x = call(layer, x, own)
        return x
    scan = nn.scan(
        lambda layer, carry, own: (call(layer, carry, own), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=count,
    )
    return scan(layers, x, per_layer)[0]


def one_by_one(config: ModelConfig, layers: Any) -> Any:
    """The modules, for work that goes layer by layer.

    Raises:
      ValueError: they are scanned.
    """
    if config.scan_layers:
        raise ValueError("step by step decoding wants layers one by one: see scanned.to_unrolled")
    return layers
