"""One training step as a pure function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from flanx.data.batch_formats import BatchFormat
from flanx.sharding import constraints
from flanx.training.config import LossConfig
from flanx.training.optimizer import AdafactorState
from flanx.training.projected_loss import parts_of, projected_loss
from flanx.training.schedules import ScheduleFn
from flanx.training.state import TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]

LOSS_INPUTS = ("decoder_loss_weights", "decoder_task_ids")  # of a batch, what no network is given


def make_train_step(
    model: Any,
    optimizer: optax.GradientTransformation,
    schedule: ScheduleFn,
    loss: LossConfig,
    *,
    num_tasks: int,
    microbatches: int = 1,
    gradient_clip: float | None = None,
    mesh: Mesh | None = None,
) -> TrainStep:
    """`train_step(state, batch, rng) -> (state, metrics)`: pure, to be jitted with `state` donated.

    `batch` holds T5X's arrays (`flanx.data.batches`), R rows each; `rng` is the run's one key, from which the step's
    number (and the microbatch's) makes the key of every dropout mask, so that a resumed run draws the masks it would
    have drawn. The gradient is that of the loss summed over the whole batch, divided by the batch's real target tokens
    or by `loss.normalizing_factor`; microbatches are summed after that division, so that their number changes rounding
    alone. A loss or gradient that is not finite changes nothing but the counters, and the step counts as `skipped`.
    `mesh` is where it will run, None for one device.

    Metrics are the sums of `batch_metrics`, with `grad_norm` (before clipping), `skipped` and `steps`, and the latest
    `param_norm` and `learning_rate`; `flanx.training.metrics` accumulates them.
    """

    axes_of = model.config.parameters().logical_axes

    def loss_fn(params: Any, batch: Batch, key: jax.Array, scale: jax.Array) -> Any:
        return batch_metrics(
            model,
            params,
            batch,
            loss,
            num_tasks=num_tasks,
            dropout_key=key,
            scale=scale,
            mesh=mesh,
        )

    def grad_fn(params: Any, batch: Batch, key: jax.Array, scale: jax.Array) -> Any:
        grads, metrics = jax.grad(loss_fn, has_aux=True)(params, batch, key, scale)
        return constraints.constrain_params(grads, axes_of), metrics

    def gradients(params: Any, batch: Batch, key: jax.Array) -> tuple[Any, Metrics]:
        scale = 1.0 / _denominator(batch, loss)
        if microbatches == 1:
            return grad_fn(params, batch, key, scale)

        def body(carry: Any, part: tuple[jax.Array, Batch]) -> tuple[Any, None]:
            index, rows = part
            new = grad_fn(params, rows, jax.random.fold_in(key, index), scale)
            return jax.tree.map(jnp.add, carry, new), None

        parts = jax.tree.map(lambda x: _split_rows(x, microbatches), batch)
        zeros: Any = (params, batch_metric_shapes(num_tasks))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), zeros)
        zeros = (constraints.constrain_params(zeros[0], axes_of), zeros[1])
        return jax.lax.scan(body, zeros, (jnp.arange(microbatches), parts))[0]

    def train_step(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        grads, metrics = gradients(state.params, batch, jax.random.fold_in(rng, state.step))
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(grad_norm) & jnp.isfinite(metrics["loss"])
        if gradient_clip is not None:
            shrink = jnp.minimum(1.0, gradient_clip / jnp.maximum(grad_norm, 1e-16))
            grads = jax.tree.map(lambda g: g * shrink, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = _keep(finite, optax.apply_updates(state.params, updates), state.params)
        opt_state = _keep(finite, opt_state, state.opt_state)
        metrics = jax.tree.map(lambda x: jnp.where(finite, x, jnp.zeros_like(x)), metrics)
        metrics |= {
            "steps": jnp.ones((), jnp.int32),
            "skipped": jnp.where(finite, 0, 1).astype(jnp.int32),
            "skipped_in_a_row": jnp.where(finite, 0, 1).astype(jnp.int32),
            "grad_norm": jnp.where(finite, grad_norm, 0.0),
            "param_norm": optax.tree.norm(params),
            "learning_rate": schedule(_optimizer_step(state)).astype(jnp.float32),
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step


def _optimizer_step(state: TrainState) -> jax.Array:
    """What the schedule is asked with: Adafactor's own count, which may go on from a restored checkpoint's."""
    return state.opt_state.count if isinstance(state.opt_state, AdafactorState) else state.step


def batch_metrics(
    model: Any,
    params: Any,
    batch: Batch,
    loss: LossConfig,
    *,
    num_tasks: int,
    dropout_key: jax.Array | None = None,
    scale: jax.Array | float = 1.0,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, Metrics]:
    """Loss summed over real target tokens and times `scale`, and sums to report: all additive over batches.

    float32 scalars `loss`, `z_loss`, `correct`, `weights`; int32 scalars `input_tokens`, `target_tokens`,
    `input_cells`, `target_cells`, `examples`; float32 `task_loss` and int32 `task_tokens`, [num_tasks] each. The loss
    has the z-loss inside, as T5X's. Of the mesh only its size counts: it tells how large a device's logits are.
    """
    targets = batch["decoder_target_tokens"]
    projection = model.apply(
        {"params": params},
        **{name: array for name, array in batch.items() if name not in LOSS_INPUTS},
        deterministic=dropout_key is None,
        rngs=None if dropout_key is None else {"dropout": dropout_key},
        method="before_logits",
    )
    weights = batch["decoder_loss_weights"].astype(jnp.float32)
    vocab_size = projection.kernel.shape[projection.vocab_axis]
    rows, length = targets.shape
    parts = parts_of(loss, rows, length, vocab_size, mesh)
    # Scaled before and not after, the kernel's gradient need not be gone through once more.
    total, each = projected_loss(projection, targets, weights * scale, loss, parts)
    weighted = each.loss * weights
    real = weights > 0
    metrics = {
        "loss": jnp.sum(weighted),
        "z_loss": jnp.sum(each.z_loss * weights),
        "correct": jnp.sum(each.correct * weights),
        "weights": jnp.sum(weights),
        "input_tokens": _input_tokens(batch, real),
        "target_tokens": _count(real),
        "input_cells": jnp.full((), batch.get("encoder_input_tokens", targets).size, jnp.int32),
        "target_cells": jnp.full((), targets.size, jnp.int32),
        "examples": _examples(batch, real),
        **_by_task(batch, weighted, real, num_tasks),
    }
    return total, metrics


def batch_metric_shapes(num_tasks: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What `batch_metrics` returns, told without tracing a model."""
    whole = ("input_tokens", "target_tokens", "input_cells", "target_cells", "examples")
    return {
        **{name: _shape(jnp.float32) for name in ("loss", "z_loss", "correct", "weights")},
        **{name: _shape(jnp.int32) for name in whole},
        "task_loss": _shape(jnp.float32, num_tasks),
        "task_tokens": _shape(jnp.int32, num_tasks),
    }


def metric_shapes(num_tasks: int) -> dict[str, jax.ShapeDtypeStruct]:
    """What a training step's metrics are."""
    real = ("grad_norm", "param_norm", "learning_rate")
    return {
        **batch_metric_shapes(num_tasks),
        **{name: _shape(jnp.int32) for name in ("steps", "skipped", "skipped_in_a_row")},
        **{name: _shape(jnp.float32) for name in real},
    }


def batch_shapes(batch_format: BatchFormat, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """A training batch of `rows` rows, as its format makes it."""
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))
        for name, (shape, dtype) in batch_format.shapes(rows).items()
    }


def _by_task(batch: Batch, weighted: jax.Array, real: jax.Array, num_tasks: int) -> Metrics:
    """Loss sums and token counts of each task; a batch without task ids counts under task 0."""
    ids = batch.get("decoder_task_ids")
    ids = jnp.zeros(real.shape, jnp.int32) if ids is None else ids
    return {
        "task_loss": jax.ops.segment_sum(weighted.ravel(), ids.ravel(), num_tasks),
        "task_tokens": jax.ops.segment_sum(real.ravel().astype(jnp.int32), ids.ravel(), num_tasks),
    }


def _examples(batch: Batch, real: jax.Array) -> jax.Array:
    segments = batch.get("decoder_segment_ids")
    if segments is None:
        return _count(jnp.any(real, axis=-1))
    return jnp.sum(jnp.max(segments, axis=-1), dtype=jnp.int32)


def _input_tokens(batch: Batch, real: jax.Array) -> jax.Array:
    """Tokens that are read and not learnt: an encoder's, or those of a decoder's rows that the loss leaves out."""
    if "encoder_input_tokens" in batch:
        return _count(batch["encoder_input_tokens"] > 0)
    return _count((batch["decoder_segment_ids"] > 0) & ~real)


def _denominator(batch: Batch, loss: LossConfig) -> jax.Array:
    """What the summed loss is divided by: never 0, so that a batch of padding gives zero gradients."""
    if loss.normalizing_factor is not None:
        return jnp.float32(loss.normalizing_factor)
    return jnp.maximum(jnp.sum(batch["decoder_loss_weights"].astype(jnp.float32)), 1.0)


def _split_rows(x: jax.Array, parts: int) -> jax.Array:
    """[R, ...] -> [parts, R / parts, ...], every part taking an even share of each device's rows."""
    split = jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1)
    return constraints.constrain(split, None, "batch", *[None] * (x.ndim - 1))


def _keep(finite: jax.Array, new: Any, old: Any) -> Any:
    """`new` where the gradient was finite, else `old`; whole numbers are counters and always go on."""

    def choose(n: jax.Array, o: jax.Array) -> jax.Array:
        return n if jnp.issubdtype(n.dtype, jnp.integer) else jnp.where(finite, n, o)

    return jax.tree.map(choose, new, old)


def _shape(dtype: Any, *sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def _count(mask: jax.Array) -> jax.Array:
    return jnp.sum(mask, dtype=jnp.int32)
