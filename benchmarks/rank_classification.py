"""Ranking the options of questions: shared encoder against every (question, option) row alone; prints one JSON line.

    python benchmarks/rank_classification.py                          256 questions, T5.1.1 small: about six minutes
    python benchmarks/rank_classification.py --questions=16 --size=tiny

Questions of 64 to 512 tokens, 8 options each of 2 to 9 tokens, end-of-sequence included; all uniform. Three ways, on
the same rows in batches of the same number of rows, sorted by length: flanx with the encoder run once a question
(`Predictor.option_scores`); flanx with a row for each question and option (`Predictor.losses`); and transformers'
forward pass with a row for each, over the first questions only (`transformers_questions`; its time is scaled to all).
Parameters are random, float32. Everything is compiled before, on a batch of every width, and that time is not counted.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import torch
import transformers

from flanx import models
from flanx.decoding.batching import ladder
from flanx.evaluation.predictor import Predictor
from flanx.models.t5.config import T5Config

SIZES = {
    "tiny": {"emb_dim": 128, "num_heads": 4, "head_dim": 32, "mlp_dim": 256, "layers": 4},
    "small": {"emb_dim": 512, "num_heads": 6, "head_dim": 64, "mlp_dim": 1024, "layers": 8},
    "base": {"emb_dim": 768, "num_heads": 12, "head_dim": 64, "mlp_dim": 2048, "layers": 12},
}
INPUTS, OPTION, OPTIONS = (64, 512), (2, 9), 8
ROWS = 16  # of a batch
THREADS = 2
PEER_QUESTIONS = 32

Rows = list[list[int]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--questions", type=int, default=256)
    args = parser.parse_args()

    size = SIZES[args.size]
    inputs, options = _questions(args.questions)
    shared, alone, difference = _flanx(size, inputs, options)
    peers = min(PEER_QUESTIONS, args.questions)
    theirs = _transformers(size, inputs[:peers], options[:peers]) * args.questions / peers
    print(
        json.dumps(
            {
                "benchmark": "rank_classification",
                "size": args.size,
                "questions": args.questions,
                "options": OPTIONS,
                "input_tokens": sum(map(len, inputs)),
                "option_tokens": sum(len(option) for few in options for option in few),
                "shared_seconds": round(shared, 2),
                "alone_seconds": round(alone, 2),
                "ratio": round(alone / shared, 2),
                "goal": 5.0,
                "largest_difference": float(f"{difference:.2g}"),
                "transformers_questions": peers,
                "transformers_seconds": round(theirs, 2),
                "ratio_to_transformers": round(theirs / shared, 2),
                "threads": THREADS,
                "dtype": "float32",
                "device": jax.devices()[0].device_kind,
                "machine": platform.processor() or platform.machine(),
                "peer": f"transformers {transformers.__version__}, torch {torch.__version__}",
            }
        )
    )


def _questions(count: int) -> tuple[Rows, list[Rows]]:
    rng = np.random.default_rng(1)

    def row(least: int, most: int) -> list[int]:
        return [*rng.integers(2, 32_000, rng.integers(least, most + 1) - 1).tolist(), 1]

    return [row(*INPUTS) for _ in range(count)], [
        [row(*OPTION) for _ in range(OPTIONS)] for _ in range(count)
    ]


def _flanx(size: dict[str, int], inputs: Rows, options: list[Rows]) -> tuple[float, float, float]:
    """Seconds with a shared encoder, and alone; the largest difference of a score."""
    fields = {name: value for name, value in size.items() if name != "layers"}
    layers = size["layers"]
    model = models.build(
        T5Config(**fields, num_encoder_layers=layers, num_decoder_layers=layers, dtype="float32")
    )
    params = jax.jit(models.init_params, static_argnums=0)(model, jax.random.key(0))
    predictor = Predictor(model, INPUTS[1])

    def shared() -> np.ndarray:
        return np.array(predictor.option_scores(params, inputs, options, batch_size=ROWS))

    each = [question for question in inputs for _ in range(OPTIONS)]
    targets = [option for few in options for option in few]

    def alone(questions: Rows, answers: Rows) -> np.ndarray:
        return -predictor.losses(params, questions, answers, batch_size=ROWS)[:, 0]

    shared()
    longest = max(targets, key=len)
    for width in ladder(INPUTS[1]):
        alone([[2] * width] * ROWS, [longest] * ROWS)
    start = time.perf_counter()
    scores = shared()
    between = time.perf_counter()
    slow = alone(each, targets).reshape(-1, OPTIONS)
    end = time.perf_counter()
    return between - start, end - between, float(np.max(np.abs(scores - slow)))


def _transformers(size: dict[str, int], inputs: Rows, options: list[Rows]) -> float:
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
    rows = [(q, option) for q, few in zip(inputs, options, strict=True) for option in few]
    rows.sort(key=lambda row: -len(row[0]))

    def score(batch: Sequence[Any]) -> None:
        ids = _padded([question for question, _ in batch])
        labels = _padded([option for _, option in batch])
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=(ids > 0).long(), labels=labels).logits
            chosen = torch.log_softmax(logits, -1).gather(-1, labels[..., None])[..., 0]
            (chosen * (labels > 0)).sum(-1)

    score(rows[:ROWS])
    start = time.perf_counter()
    for first in range(0, len(rows), ROWS):
        score(rows[first : first + ROWS])
    return time.perf_counter() - start


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    out = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long)
    for row, tokens in zip(out, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    return out


if __name__ == "__main__":
    main()
