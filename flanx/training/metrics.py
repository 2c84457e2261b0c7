"""Metrics summed on the device between log points, and turned into values once a line."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LATEST = ("param_norm", "learning_rate")
IN_A_ROW = "skipped_in_a_row"  # runs on over log lines


def add(total: dict[str, jax.Array], new: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """`total` with one more step: everything adds up but a count in a row, and the `LATEST`, which the new step has."""
    joined = {name: new[name] if name in LATEST else total[name] + new[name] for name in new}
    return joined | {IN_A_ROW: jnp.where(new[IN_A_ROW] > 0, joined[IN_A_ROW], 0)}


def summarise(total: dict[str, Any], task_names: Sequence[str]) -> dict[str, Any]:
    """Sums on the host as the values of a metrics.jsonl line; `task_loss` has the tasks seen, and only those.

    `loss`, `z_loss`, `accuracy` are means over real target tokens, `grad_norm` the mean over steps not skipped;
    `fill_*` the share of cells that hold real tokens; `skipped_updates` stands there when some were.
    """
    sums = {name: np.asarray(value) for name, value in total.items()}
    weights = max(float(sums["weights"]), 1e-9)
    taken = int(sums["steps"]) - int(sums["skipped"])
    values: dict[str, Any] = {
        "loss": float(sums["loss"]) / weights if taken else float("nan"),
        "accuracy": float(sums["correct"]) / weights,
        "z_loss": float(sums["z_loss"]) / weights,
        "grad_norm": float(sums["grad_norm"]) / max(taken, 1),
        "param_norm": float(sums["param_norm"]),
        "learning_rate": float(sums["learning_rate"]),
        "fill_inputs": float(sums["input_tokens"]) / max(int(sums["input_cells"]), 1),
        "fill_targets": float(sums["target_tokens"]) / max(int(sums["target_cells"]), 1),
    }
    if sums["skipped"]:
        values["skipped_updates"] = int(sums["skipped"])
    seen = np.flatnonzero(sums["task_tokens"]).tolist()
    values["task_loss"] = {
        task_names[i]: float(sums["task_loss"][i]) / int(sums["task_tokens"][i]) for i in seen
    }
    return values


def counts(total: dict[str, Any]) -> tuple[int, int]:
    """Real tokens (inputs and targets) and examples in a sum."""
    tokens = int(total["input_tokens"]) + int(total["target_tokens"])
    return tokens, int(total["examples"])
