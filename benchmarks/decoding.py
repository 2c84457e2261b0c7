"""Tokens a second of greedy decoding or beam search, by turns with transformers' generate; prints one JSON line.

    python benchmarks/decoding.py                       greedy, T5.1.1 small, batch 8, 512 in, 64 out: about a minute
    python benchmarks/decoding.py --beams=4             beam search, the same: about two minutes
    python benchmarks/decoding.py --size=tiny --inputs=64 --targets=16 --repeats=3

Both sides have the same random float32 parameters and inputs, and two threads. The end of a sequence is never taken, so
that both make exactly --targets tokens of every row. Each side runs once before it is timed, which leaves compilation
out (the time it took is given apart); then they take turns, and the figures are medians. torch flushes denormals to
zero, without which it slows down from run to run. `same_tokens` is the share of tokens on which both sides agree:
where two logits all but tie, rounding decides.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from flax.traverse_util import flatten_dict

from flanx import models
from flanx.decoding.beam import HuggingFaceScoring, beam_search
from flanx.decoding.engine import Engine
from flanx.decoding.requests import Request
from flanx.models.t5.config import T5Config

SIZES = {
    "tiny": {"emb_dim": 128, "num_heads": 4, "head_dim": 32, "mlp_dim": 256, "layers": 4},
    "small": {"emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024, "layers": 8},
    "base": {"emb_dim": 768, "num_heads": 12, "head_dim": 64, "mlp_dim": 2048, "layers": 12},
}
THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--beams", type=int, default=1, help="1 for greedy")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--inputs", type=int, default=512)
    parser.add_argument("--targets", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()

    fields = dict(SIZES[args.size])
    layers = fields.pop("layers")
    config = T5Config(
        **fields, num_encoder_layers=layers, num_decoder_layers=layers, dtype="float32"
    )
    model = models.build(config)
    params = jax.jit(models.init_params, static_argnums=0)(model, jax.random.key(0))
    inputs = np.random.default_rng(0).integers(2, config.vocab_size, (args.batch, args.inputs))

    ours, compile_seconds = _flanx(model, params, inputs, args.targets, args.beams)
    theirs = _transformers(config, params, inputs, args.targets, args.beams)
    same = float(np.mean(ours() == theirs()))
    ours_seconds, theirs_seconds = [], []
    for _ in range(args.repeats):
        ours_seconds.append(_seconds(ours))
        theirs_seconds.append(_seconds(theirs))

    ours_median, theirs_median = map(statistics.median, (ours_seconds, theirs_seconds))
    produced = args.batch * args.targets
    print(
        json.dumps(
            {
                "benchmark": "decoding",
                "size": args.size,
                "beams": args.beams,
                "batch": args.batch,
                "inputs": args.inputs,
                "targets": args.targets,
                "repeats": args.repeats,
                "flanx_seconds": round(ours_median, 3),
                "flanx_tokens_per_second": round(produced / ours_median, 1),
                "flanx_compile_seconds": round(compile_seconds, 1),
                "transformers_seconds": round(theirs_median, 3),
                "transformers_tokens_per_second": round(produced / theirs_median, 1),
                "ratio": round(theirs_median / ours_median, 2),
                "goal": 1.5,
                "same_tokens": round(same, 4),
                "threads": THREADS,
                "dtype": "float32",
                "device": jax.devices()[0].device_kind,
                "machine": platform.processor() or platform.machine(),
                "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
            }
        )
    )


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _flanx(
    model: Any, params: Any, inputs: np.ndarray, length: int, beams: int
) -> tuple[Callable[[], np.ndarray], float]:
    """A function that decodes, compiled; and how many seconds that took (greedy: with a first run)."""

    if beams == 1:
        rows = inputs.shape[0]
        engine = Engine(
            model, inputs_length=inputs.shape[1], max_length=length, slots=rows, eos_id=-1
        )
        requests = [Request(tokens, length) for tokens in inputs.tolist()]

        def answer() -> np.ndarray:
            return np.array(
                [
                    r.tokens
                    for _, r in sorted(engine.run(params, requests), key=lambda pair: pair[0])
                ]
            )

        start = time.perf_counter()
        answer()
        return answer, time.perf_counter() - start

    def decode(params: Any, inputs: jax.Array) -> jax.Array:
        scoring = HuggingFaceScoring()
        return beam_search(model, params, inputs, length, beams, scoring, eos_id=-1)[0][:, -1]

    given = jnp.asarray(inputs, jnp.int32)
    start = time.perf_counter()
    compiled = jax.jit(decode).lower(params, given).compile()
    return lambda: np.asarray(compiled(params, given)), time.perf_counter() - start


def _transformers(
    config: T5Config, params: Any, inputs: np.ndarray, length: int, beams: int
) -> Callable[[], np.ndarray]:
    """A function that decodes with the same parameters."""
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=config.vocab_size,
            d_model=config.emb_dim,
            num_heads=config.num_heads,
            d_kv=config.head_dim,
            d_ff=config.mlp_dim,
            num_layers=config.num_encoder_layers,
            num_decoder_layers=config.num_decoder_layers,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
            eos_token_id=None,
            # Tied, which is the default, its logits are scaled by d_model^-0.5: greedy answers stay the same, beams do
            # not.
            tie_word_embeddings=False,
            scale_decoder_outputs=False,
        )
    ).eval()
    weights = {}
    for name, array in flatten_dict(params, sep="/").items():
        their_name, transposed = config.parameters().to_hf(name)
        values = np.asarray(array).T if transposed else np.asarray(array)
        weights[their_name] = torch.tensor(values)
    # transformers ties the output projection to the embedding whatever it is told; the given parameters do not.
    model.lm_head = torch.nn.Linear(config.emb_dim, config.vocab_size, bias=False)
    for stack in ("encoder", "decoder"):
        weights[f"{stack}.embed_tokens.weight"] = weights["shared.weight"]
    model.load_state_dict(weights)
    ids = torch.tensor(inputs)

    def decode() -> np.ndarray:
        with torch.inference_mode():
            made = model.generate(ids, max_new_tokens=length, num_beams=beams, do_sample=False)
        return made[:, 1:].numpy()

    return decode


if __name__ == "__main__":
    main()
