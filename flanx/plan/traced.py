"""What one device computes and keeps, by tracing the run's own loss at the size of its share. Nothing is compiled.

A device of a mesh works like a smaller model on fewer rows: with `model` m it has a share 1/m of the heads, of the
feed-forward block and of the vocabulary, and with replica x data = r a share 1/r of the rows. Tracing that model tells
exactly what the backward pass keeps, under any remat policy, and every matrix product, those computed again included.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from flanx import models
from flanx.data.batch_formats import RowSettings
from flanx.models.config import ModelConfig
from flanx.sharding import constraints
from flanx.training.config import LossConfig
from flanx.training.step import batch_metrics, batch_shapes


@dataclass(frozen=True)
class Share:
    """One device's part of a microbatch.

    Attributes:
      kept: bytes kept from the forward for the backward pass, for each row.
      copies: bytes so kept whatever the rows: the parameters in the activations' type, say.
      flops: of forward and backward, for each row.
      moved: bytes that the operands and results of matrix products have, for each row.
      moved_once: so many whatever the rows: the parameters' own.
    """

    kept: float
    copies: float
    flops: float
    moved: float
    moved_once: float


@functools.lru_cache(maxsize=1024)
def trace(
    config: ModelConfig, loss: LossConfig, inputs: int, targets: int, fused: bool = False
) -> Share:
    """Traces forward and backward at one row and at two; what grows is counted by the row.

    Args:
      config: one device's share of the network.
      loss: loss terms.
      inputs: length of input rows.
      targets: length of target rows.
      fused: attention by a kernel that never writes its logits (`flanx.models.common.cudnn`).
    """
    # Scanned or not, the same is kept; a scan is traced in a twentieth of the time.
    config = replace(config, scan_layers=True)
    # So few rows are traced that their logits need not be cut.
    loss = replace(loss, chunks=loss.chunks or 1)
    lengths = {"inputs": inputs, "targets": targets}
    unwritten = _scores(inputs, targets) if fused else frozenset()
    (few, one), (many, two) = (_traced(config, loss, n, lengths, unwritten) for n in (1, 2))
    kept = many - few
    return Share(
        kept=kept,
        copies=max(few - kept - 4 * config.num_parameters(), 0.0),
        flops=two.flops - one.flops,
        moved=two.bytes - one.bytes,
        moved_once=max(2 * one.bytes - two.bytes, 0.0),
    )


def _scores(inputs: int, targets: int) -> frozenset[tuple[int, int]]:
    """Last two dimensions of attention's logits and weights."""
    pairs = ((inputs, inputs), (targets, targets), (targets, inputs))
    return frozenset(p for a, b in pairs for p in ((a, b), (b, a)))


def _written(shape: tuple[int, ...], unwritten: frozenset[tuple[int, int]]) -> bool:
    """Only attention has arrays of rows, heads and two lengths; a layer's other arrays have three dimensions."""
    return len(shape) < 4 or shape[-2:] not in unwritten


def _traced(
    config: ModelConfig,
    loss: LossConfig,
    rows: int,
    lengths: Mapping[str, int],
    unwritten: frozenset[tuple[int, int]],
) -> tuple[float, "Products"]:
    """Bytes of what `jax.vjp` hands from forward to backward, and the products of both.

    The function that `jax.vjp` returns is a tree of the arrays that it keeps.
    """
    model = models.build(config)

    def step(params: Any, batch: Any, key: Any) -> Any:
        # The way of an accelerator, whatever this process computes on.
        with constraints.compiled_for("gpu"):
            total, backward = jax.vjp(
                lambda p: batch_metrics(model, p, batch, loss, num_tasks=1, dropout_key=key)[0],
                params,
            )
            return backward(jnp.ones_like(total)), jax.tree.leaves(backward)

    key = jax.eval_shape(lambda: jax.random.key(0))
    jaxpr, (_, kept) = jax.make_jaxpr(step, return_shape=True)(
        _params(config), batch_shapes(config.batch_format(lengths, RowSettings()), rows), key
    )
    # A stack's arrays have its layers as one more dimension in front.
    size = sum(x.size * x.dtype.itemsize for x in kept if _written(x.shape[1:], unwritten))
    return float(size), products(jaxpr.jaxpr, unwritten)


@functools.lru_cache(maxsize=64)
def _params(config: ModelConfig) -> Any:
    model = models.build(config)
    return jax.eval_shape(lambda: models.init_params(model, jax.random.key(0)))


@dataclass(frozen=True)
class Products:
    """All matrix products of a program: FLOPs, and bytes of operands and results."""

    flops: float = 0.0
    bytes: float = 0.0

    def __add__(self, other: "Products") -> "Products":
        return Products(self.flops + other.flops, self.bytes + other.bytes)

    def __mul__(self, times: int) -> "Products":
        return Products(self.flops * times, self.bytes * times)


def products(jaxpr: Any, unwritten: frozenset[tuple[int, int]] = frozenset()) -> Products:
    """All matrix products of a jaxpr, a scan's body as many times as it runs."""
    total = Products()
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            arrays = [v.aval for v in (*equation.invars, *equation.outvars)]
            total += Products(
                2.0 * arrays[-1].size * math.prod(left[d] for d in contracted),
                sum(a.size * a.dtype.itemsize for a in arrays if _written(a.shape, unwritten)),
            )
            continue
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        for inner in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr"),
        ):
            body = getattr(inner, "jaxpr", inner)
            if hasattr(body, "eqns"):
                total += products(body, unwritten) * times
    return total


def itemsize(config: ModelConfig) -> int:
    """Bytes of an activation."""
    return jnp.dtype(config.dtype).itemsize
