"""Share of a training step spent waiting for data. Prints one JSON line.

    python benchmarks/input_wait.py                   # model `small` at 512/128, batch 8
    python benchmarks/input_wait.py --loader_only     # the loader by itself, no JAX

A mixture of stores is written to a temporary folder, with lengths spread as those of Natural Instructions are
(log-normal, 218 inputs and 10 targets in the mean). First the loader runs alone, on one core. Then the real train step
(Adafactor, dropout, donated state) runs on batches from the real loader, once with `prefetch` and once without: that is
the peer. What counts as waiting is the time until the next batch is in hand and its transfer has been started.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from flanx.data import store
from flanx.data.loader import Batch, Loader, prefetch
from flanx.data.manifest import Entry, Manifest


def write_mixture(
    folder: Path, tasks: int, examples: int, feature_lengths: dict[str, int]
) -> Manifest:
    draw = np.random.default_rng(0)
    entries = []
    for number in range(tasks):
        inputs = np.clip(np.exp(draw.normal(5.15, 0.68, examples)), 8, feature_lengths["inputs"])
        targets = np.clip(np.exp(draw.normal(1.7, 1.1, examples)), 2, feature_lengths["targets"])
        name, path = f"bench.t{number}", f"bench.t{number}/train-bench"
        rows = (
            store.Example(
                draw.integers(2, 32000, int(n)).tolist(),
                draw.integers(2, 32000, int(m)).tolist(),
                i,
            )
            for i, (n, m) in enumerate(zip(inputs, targets, strict=True))
        )
        store.write(folder / path, rows, {"task": name, "key": "bench"}, vocabulary_size=32128)
        entries.append(Entry(name, name, "", "", path, examples, 1.0, {}))
    vocabulary = {"spec": "none", "fingerprint": "none", "size": 32128}
    return Manifest("bench", "train", {}, feature_lengths, vocabulary, tuple(entries), ())


def loader_alone(loader: Loader, seconds: float) -> dict[str, float]:
    started = time.perf_counter()
    batches: Iterator[Batch] = iter(loader)
    next(batches)
    first = time.perf_counter() - started
    count = examples = 0
    fills = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        batch = next(batches)
        count += 1
        examples += batch.num_examples
        fills.append([batch.fill["inputs"], batch.fill["targets"]])
    inputs, targets = np.mean(fills, axis=0)
    return {
        "first_batch_seconds": round(first, 4),
        "batches_per_second": round(count / elapsed, 1),
        "examples_per_second": round(examples / elapsed),
        "fill_inputs": round(float(inputs), 4),
        "fill_targets": round(float(targets), 4),
    }


def training(loader: Loader, steps: int, num_tasks: int) -> dict[str, Any]:
    import jax

    from flanx import models
    from flanx.models.t5.config import T5Config
    from flanx.training.config import LossConfig
    from flanx.training.optimizer import Adafactor
    from flanx.training.schedules import Constant
    from flanx.training.state import new_state
    from flanx.training.step import make_train_step

    small = T5Config(
        emb_dim=512,
        num_heads=6,
        num_encoder_layers=8,
        num_decoder_layers=8,
        mlp_dim=1024,
        dtype="float32" if jax.default_backend() == "cpu" else "bfloat16",
    )
    model = models.build(small)
    schedule = Constant().build()
    optimizer = Adafactor().build(schedule)
    step = jax.jit(
        make_train_step(model, optimizer, schedule, LossConfig(), num_tasks=num_tasks),
        donate_argnums=0,
    )
    key = jax.random.key(0)
    state = new_state(jax.jit(models.init_params, static_argnums=0)(model, key), optimizer)

    def run(batches: Iterator[Batch], state: Any) -> tuple[float, float, Any]:
        state, metrics = step(state, jax.device_put(next(batches).arrays), key)
        jax.block_until_ready(metrics)
        waited = 0.0
        started = time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            arrays = jax.device_put(next(batches).arrays)
            waited += time.perf_counter() - asked
            state, metrics = step(state, arrays, key)
            jax.block_until_ready(metrics)
        return waited, time.perf_counter() - started, state

    with prefetch(loader) as ahead:
        waited, total, state = run(ahead, state)
    waited_plain, total_plain, _ = run(iter(loader), state)
    return {
        "wait_share": round(waited / total, 6),
        "step_seconds": round(total / steps, 4),
        "wait_share_without_prefetch": round(waited_plain / total_plain, 6),
        "goal_wait_share": 0.02,
        "device": jax.devices()[0].device_kind,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--targets", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--examples", type=int, default=500, help="of each task")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="for the loader alone")
    parser.add_argument("--loader_only", action="store_true")
    options = parser.parse_args()
    lengths = {"inputs": options.inputs, "targets": options.targets}
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_mixture(Path(folder), options.tasks, options.examples, lengths)

        def loader() -> Loader:
            return Loader(
                manifest, folder, batch_size=options.batch_size, feature_lengths=lengths, seed=0
            )

        result = {
            "benchmark": "input_wait",
            "lengths": lengths,
            "batch_size": options.batch_size,
            "tasks": options.tasks,
            "loader": loader_alone(loader(), options.seconds),
        }
        if not options.loader_only:
            result |= training(loader(), options.steps, options.tasks)
    result["machine"] = platform.processor() or platform.machine()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
