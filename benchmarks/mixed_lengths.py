"""Requests of mixed lengths: continuous batching against transformers in plain batches; prints one JSON line.

    python benchmarks/mixed_lengths.py                                256 requests, T5.1.1 small: about five minutes
    python benchmarks/mixed_lengths.py --requests=24 --size=tiny

Inputs of 8 to 512 tokens and outputs of 1 to 128, both uniform. The end of a sequence is never taken, so that both
sides make exactly the given number of tokens of each request. transformers gets batches of 8 in the order of the
requests, padded to the longest input and run to the longest output of each. Parameters are random, float32. Each side
first answers other requests of the same distribution: flanx as many, so that all its programs are compiled (the time
that took is given apart), transformers one batch.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence

import jax
import numpy as np
import torch
import transformers

from flanx import models
from flanx.decoding.engine import Engine
from flanx.decoding.requests import Request
from flanx.models.t5.config import T5Config

SIZES = {
    "tiny": {"emb_dim": 128, "num_heads": 4, "head_dim": 32, "mlp_dim": 256, "layers": 4},
    "small": {"emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024, "layers": 8},
    "base": {"emb_dim": 768, "num_heads": 12, "head_dim": 64, "mlp_dim": 2048, "layers": 12},
}
INPUTS, OUTPUTS = (8, 512), (1, 128)
BATCH = 8  # of transformers
THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--slots", type=int, default=32)
    args = parser.parse_args()

    size = SIZES[args.size]
    asked, others = _requests(args.requests, seed=1), _requests(args.requests, seed=2)
    tokens = sum(request.max_length for request in asked)
    ours, first = _flanx(size, args.slots, asked, others)
    theirs = _transformers(size, asked, others)
    print(
        json.dumps(
            {
                "benchmark": "mixed_lengths",
                "size": args.size,
                "requests": args.requests,
                "input_tokens": sum(len(request.tokens) for request in asked),
                "output_tokens": tokens,
                "slots": args.slots,
                "flanx_seconds": round(ours, 2),
                "flanx_tokens_per_second": round(tokens / ours, 1),
                "flanx_compile_seconds": round(first - ours, 1),
                "transformers_seconds": round(theirs, 2),
                "transformers_tokens_per_second": round(tokens / theirs, 1),
                "ratio": round(theirs / ours, 2),
                "goal": 3.0,
                "threads": THREADS,
                "dtype": "float32",
                "device": jax.devices()[0].device_kind,
                "machine": platform.processor() or platform.machine(),
                "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
            }
        )
    )


def _requests(count: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    return [
        Request(
            rng.integers(2, 32_000, rng.integers(INPUTS[0], INPUTS[1] + 1)).tolist(),
            int(rng.integers(OUTPUTS[0], OUTPUTS[1] + 1)),
        )
        for _ in range(count)
    ]


def _flanx(
    size: dict[str, int], slots: int, asked: Sequence[Request], others: Sequence[Request]
) -> tuple[float, float]:
    """Seconds for the requests, and for others before anything was compiled."""
    fields = {name: value for name, value in size.items() if name != "layers"}
    model = models.build(
        T5Config(
            **fields,
            num_encoder_layers=size["layers"],
            num_decoder_layers=size["layers"],
            dtype="float32",
        )
    )
    params = jax.jit(models.init_params, static_argnums=0)(model, jax.random.key(0))
    engine = Engine(model, inputs_length=INPUTS[1], max_length=OUTPUTS[1], slots=slots, eos_id=-1)

    def answered(requests: Sequence[Request]) -> float:
        start = time.perf_counter()
        for number, result in engine.run(params, requests):
            assert len(result.tokens) == requests[number].max_length
        return time.perf_counter() - start

    first = answered(others)
    return answered(asked), first


def _transformers(
    size: dict[str, int], asked: Sequence[Request], others: Sequence[Request]
) -> float:
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    torch.manual_seed(0)
    config = transformers.T5Config(
        d_model=size["emb_dim"],
        num_heads=size["num_heads"],
        d_kv=size["head_dim"],
        d_ff=size["mlp_dim"],
        num_layers=size["layers"],
        feed_forward_proj="gated-gelu",
        vocab_size=32128,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = transformers.T5ForConditionalGeneration(config).eval()

    def answer(batch: Sequence[Request]) -> None:
        width = max(len(request.tokens) for request in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        for row, request in zip(ids, batch, strict=True):
            row[: len(request.tokens)] = torch.tensor(request.tokens)
        length = max(request.max_length for request in batch)
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids,
                attention_mask=(ids > 0).long(),
                do_sample=False,
                max_new_tokens=length,
                min_new_tokens=length,
            )
        assert made.shape == (len(batch), length + 1)

    answer(others[:BATCH])
    start = time.perf_counter()
    for first in range(0, len(asked), BATCH):
        answer(asked[first : first + BATCH])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
