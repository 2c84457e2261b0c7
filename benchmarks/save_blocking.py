"""How long a checkpoint's save keeps the training loop waiting, against the time between saves at the default period.

A T5.1.1 (small unless told otherwise) with Adafactor's state is trained for some steps, saved in the background while
it goes on, as in a run, and saved once more with a wait for the disk, which is what saving without a background costs.
The share is the blocking time over the time of `CheckpointConfig.period` steps at the measured step time. Goal: 1 %.

  python benchmarks/save_blocking.py
  python benchmarks/save_blocking.py --layers 1 --steps 3 --saves 2 --batch 2 --inputs 64 --targets 32   # a small trial
"""

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flanx.models.t5.config import T5Config
from flanx.sharding.mesh import batch_sharding, make_mesh
from flanx.training import program as programs
from flanx.training import startup
from flanx.training.checkpoint import Checkpoints
from flanx.training.config import CheckpointConfig, DataConfig, TrainConfig
from flanx.training.step import batch_shapes

SMALL = T5Config(
    emb_dim=512, num_heads=6, head_dim=64, num_encoder_layers=8, num_decoder_layers=8, mlp_dim=1024
)


def main() -> None:
    args = arguments()
    startup.prepare("")
    layers = {} if args.layers is None else dict.fromkeys(LAYERS, args.layers)
    data = DataConfig("none", {"inputs": args.inputs, "targets": args.targets}, cache_dir="unused")
    config = TrainConfig(
        model_dir="unused",
        model=replace(SMALL, dtype=args.dtype, **layers),
        data=data,
        train_steps=1,
        batch_size=args.batch,
    )
    program = programs.build(config, make_mesh(config.mesh), 1)
    folder = Path(tempfile.mkdtemp(prefix="save-blocking-", dir=args.folder))
    try:
        print(json.dumps(measure(config, program, folder, args.steps, args.saves)))
    finally:
        shutil.rmtree(folder)


LAYERS = ("num_encoder_layers", "num_decoder_layers")


def measure(
    config: TrainConfig, program: Any, folder: Path, steps: int, saves: int
) -> dict[str, Any]:
    """Times of steps alone, of saves in the background with steps after them, and of saves that are waited for."""
    period = CheckpointConfig().period
    checkpoints = Checkpoints(folder, CheckpointConfig(keep=1), {}, print)
    state, sums = program.fresh_state(), program.zero_sums()
    batch = make_batch(config, program)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    taken = 0

    def step() -> float:
        nonlocal state, sums, taken
        began = time.perf_counter()
        state, sums, tick = program.step(state, sums, batch, program.rng)
        tick.block_until_ready()
        taken += 1
        return time.perf_counter() - began

    def save(*, wait: bool) -> float:
        began = time.perf_counter()
        checkpoints.save(state, sums, {}, None, step=taken)
        if wait:
            checkpoints.poll(taken, wait=True)
        return time.perf_counter() - began

    step()  # compiles
    save(wait=True)  # makes folders and threads
    alone = [step() for _ in range(steps)]
    blocked, waited, beside = [], [], []
    for _ in range(saves):
        blocked.append(save(wait=False))
        beside += [step() for _ in range(steps)]
        checkpoints.poll(taken, wait=True)
        step()
        waited.append(save(wait=True))
        step()
    checkpoints.finish()
    each = statistics.median(alone)
    between = period * each
    return {
        "benchmark": "save_blocking",
        "machine": platform.processor() or platform.machine(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "parameters": config.model.num_parameters(),
        "state_mb": round(size / 1e6, 1),
        "step_s": round(each, 4),
        "step_beside_a_save_s": round(statistics.median(beside), 4),
        "period": period,
        "blocked_s": round(statistics.median(blocked), 4),
        "blocked_s_worst": round(max(blocked), 4),
        "waiting_save_s": round(statistics.median(waited), 4),
        "blocked_share": round(statistics.median(blocked) / between, 6),
        "waiting_share": round(statistics.median(waited) / between, 6),
        "ratio_to_a_waiting_save": round(statistics.median(blocked) / statistics.median(waited), 4),
    }


def make_batch(config: TrainConfig, program: Any) -> dict[str, jax.Array]:
    """Rows of random tokens without padding, one example each."""
    rng = np.random.default_rng(0)
    shapes = batch_shapes(config.batch_format(), config.batch_size)
    arrays = {}
    for name, like in shapes.items():
        if name.endswith("_tokens"):
            arrays[name] = rng.integers(3, config.model.vocab_size, like.shape, dtype=np.int32)
        elif name.endswith("_positions"):
            arrays[name] = np.broadcast_to(np.arange(like.shape[1], dtype=np.int32), like.shape)
        elif name.endswith("_task_ids"):
            arrays[name] = np.zeros(like.shape, like.dtype)
        else:  # segments and weights
            arrays[name] = np.ones(like.shape, like.dtype)
    return jax.device_put(arrays, dict.fromkeys(arrays, batch_sharding(program.mesh)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, help="of each stack, in place of 8")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--targets", type=int, default=128)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--steps", type=int, default=5, help="steps that are timed, before and after each save"
    )
    parser.add_argument("--saves", type=int, default=3)
    parser.add_argument("--folder", help="disk to write to; the temporary folder's by default")
    return parser.parse_args()


if __name__ == "__main__":
    main()
