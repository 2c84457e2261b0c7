"""Tokens a second of greedy decoding; prints one JSON line.

    python benchmarks/greedy.py                                  T5.1.1 small, batch 8, 512 in, 64 out
    python benchmarks/greedy.py --size=tiny --inputs=64 --targets=16 --repeats=3

Parameters are random and the end of a sequence is never taken, so every row runs to its full length.
"""

import argparse
import json
import platform
import time

import jax
import jax.numpy as jnp

from flanx import models
from flanx.decoding.greedy import greedy
from flanx.models.t5.config import T5Config

SIZES = {
    "tiny": T5Config(
        emb_dim=128,
        num_heads=4,
        head_dim=32,
        num_encoder_layers=4,
        num_decoder_layers=4,
        mlp_dim=256,
    ),
    "small": T5Config(
        emb_dim=512, num_heads=6, num_encoder_layers=8, num_decoder_layers=8, mlp_dim=1024
    ),
    "base": T5Config(
        emb_dim=768, num_heads=12, num_encoder_layers=12, num_decoder_layers=12, mlp_dim=2048
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--targets", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()

    config = T5Config(**{**SIZES[args.size].to_dict(), "dtype": args.dtype})
    model = models.build(config)
    params = jax.jit(models.init_params, static_argnums=0)(model, jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (args.batch, args.inputs), 2, config.vocab_size)
    decode = jax.jit(lambda params, tokens: greedy(model, params, tokens, args.targets, eos_id=-1))
    encode = jax.jit(
        lambda params, tokens: model.apply({"params": params}, tokens, method="encode")
    )
    jax.block_until_ready((decode(params, tokens), encode(params, tokens)))

    def best(function) -> float:
        seconds = []
        for _ in range(args.repeats):
            start = time.perf_counter()
            jax.block_until_ready(function(params, tokens.astype(jnp.int32)))
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    seconds, encoding = best(decode), best(encode)
    produced = args.batch * args.targets
    print(
        json.dumps(
            {
                "benchmark": "greedy",
                "size": args.size,
                "batch": args.batch,
                "inputs": args.inputs,
                "targets": args.targets,
                "dtype": args.dtype,
                "tokens_per_second": round(produced / seconds, 1),
                "seconds": round(seconds, 3),
                "encoder_seconds": round(encoding, 3),
                "device": jax.devices()[0].device_kind,
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
