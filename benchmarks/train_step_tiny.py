"""Milliseconds of forward and backward of a quickstart-sized T5 on the CPU; prints one JSON line.

    python benchmarks/train_step_tiny.py

Emb 128, 4 heads of 32, 3+3 layers, mlp 256, vocabulary 1,500; 64 packed rows of 64 + 24 tokens, float32, dropout 0.05.
The peer is the same network with its products differentiated automatically (`flanx/models/t5/products.py` says what the
difference is), measured pair by pair in the same run.
"""

import json
import statistics
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from flanx import models
from flanx.models.common import products
from flanx.models.t5.config import T5Config

ROWS, INPUTS, TARGETS, PAIRS = 64, 64, 24, 15
CONFIG = T5Config(
    emb_dim=128,
    num_heads=4,
    head_dim=32,
    num_encoder_layers=3,
    num_decoder_layers=3,
    mlp_dim=256,
    vocab_size=1500,
    dropout_rate=0.05,
    dtype="float32",
)


def batch() -> dict[str, jax.Array]:
    rng = np.random.default_rng(0)
    inputs = rng.integers(2, CONFIG.vocab_size, (ROWS, INPUTS))
    targets = rng.integers(2, CONFIG.vocab_size, (ROWS, TARGETS))
    arrays = {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "encoder_segment_ids": np.tile(np.arange(INPUTS) // (INPUTS // 4) + 1, (ROWS, 1)),
        "decoder_segment_ids": np.tile(np.arange(TARGETS) // (TARGETS // 4) + 1, (ROWS, 1)),
    }
    return {name: jnp.asarray(array, jnp.int32) for name, array in arrays.items()}


def plain_attention(query, key, value, bias, mask):
    logits = jnp.einsum("bhqd,bhkd->bhqk", query, key) + mask
    logits = logits if bias is None else logits + bias
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(logits), value)


def plain_matmul(x, kernel, dtype=None):
    return x @ kernel


def main() -> None:
    model = models.build(CONFIG)
    params = jax.jit(models.init_params, static_argnums=0)(model, jax.random.key(0))
    arguments = (params, batch(), jax.random.key(1))

    def loss(params, batch, key):
        logits = model.apply(
            {"params": params}, **batch, deterministic=False, rngs={"dropout": key}
        )
        log_z = jax.nn.logsumexp(logits, axis=-1)
        targets = batch["decoder_target_tokens"][..., None]
        return jnp.mean(log_z - jnp.take_along_axis(logits, targets, axis=-1)[..., 0])

    ours = jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile()
    with (
        mock.patch.object(products, "attention", plain_attention),
        mock.patch.object(products, "matmul", plain_matmul),
    ):
        peer = jax.jit(jax.value_and_grad(lambda *a: loss(*a))).lower(*arguments).compile()

    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(PAIRS + 1):
        for function, times in zip((ours, peer), seconds, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function(*arguments))
            if repeat:
                times.append(time.perf_counter() - start)
    best, peer_best = min(seconds[0]), min(seconds[1])
    print(
        json.dumps(
            {
                "benchmark": "train_step_tiny",
                "milliseconds": round(best * 1e3, 1),
                "milliseconds_median": round(statistics.median(seconds[0]) * 1e3, 1),
                "peer_milliseconds": round(peer_best * 1e3, 1),
                "ratio_to_peer": round(best / peer_best, 3),
                "gflops": round(
                    CONFIG.flops_per_step(ROWS, {"inputs": INPUTS, "targets": TARGETS})
                    / best
                    / 1e9,
                    1,
                ),
                "device": jax.devices()[0].device_kind,
            }
        )
    )


if __name__ == "__main__":
    main()
