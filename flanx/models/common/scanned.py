"""The two forms of a parameter tree: layers one by one, or stacked for a scan over them.

    unrolled    encoder/layers_0/attention/query/kernel (E, H*D), encoder/layers_1/...
    scanned     encoder/layers/attention/query/kernel (layers, E, H*D)

Everything outside the layers, the relative position bias too, is the same in both. Stacking moves bytes and computes
nothing, so a tree comes back from a round trip bit for bit. T5X's own scanned form differs (axis 1, a bias per layer).
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flanx.models.config import ModelConfig

STACKS = ("encoder", "decoder")
_LAYER = re.compile(r"layers_(\d+)")


def to_scanned(params: Mapping[str, Any]) -> dict[str, Any]:
    """Unrolled parameters with each stack's layers stacked on a new first axis; scanned ones as they are."""
    return {name: _stack(tree) if name in STACKS else tree for name, tree in params.items()}


def to_unrolled(params: Mapping[str, Any]) -> dict[str, Any]:
    """Scanned parameters with each stack's layers taken apart; unrolled ones as they are. Traceable."""
    return {name: _unstack(tree) if name in STACKS else tree for name, tree in params.items()}


def unrolled_model(model: Any, params: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The same network and parameters with its layers one by one, as step by step decoding wants them."""
    config: ModelConfig = model.config
    if not config.scan_layers:
        return model, dict(params)
    return model.clone(config=replace(config, scan_layers=False)), to_unrolled(params)


def _stack(tree: Mapping[str, Any]) -> dict[str, Any]:
    numbered = {
        int(found.group(1)): dict(value)
        for name, value in tree.items()
        if (found := _LAYER.fullmatch(name))
    }
    if not numbered:
        return dict(tree)
    if set(numbered) != set(range(len(numbered))):
        raise ValueError(f"layers {sorted(numbered)} are not numbered 0 to {len(numbered) - 1}")
    rest = {name: value for name, value in tree.items() if not _LAYER.fullmatch(name)}
    return {**rest, "layers": jax.tree.map(_stacked, *(numbered[i] for i in range(len(numbered))))}


def _stacked(*arrays: Any) -> Any:
    """Numpy arrays stay on the host; JAX arrays stay JAX arrays."""
    return (np if isinstance(arrays[0], np.ndarray) else jnp).stack(arrays)


def _unstack(tree: Mapping[str, Any]) -> dict[str, Any]:
    if "layers" not in tree:
        return dict(tree)
    count = jax.tree.leaves(tree["layers"])[0].shape[0]
    rest = {name: value for name, value in tree.items() if name != "layers"}
    for index in range(count):
        rest[f"layers_{index}"] = jax.tree.map(lambda array, i=index: array[i], tree["layers"])
    return rest
