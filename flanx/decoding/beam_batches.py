"""Requests that want beam search, in batches that share the number of beams and the greatest length."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from flanx.decoding.batching import batch_rows, batches, padded, rung
from flanx.decoding.beam import T5XScoring, beam_search
from flanx.decoding.requests import Request

Numbered = tuple[int, Request]
Best = tuple[
    list[int], float
]  # tokens, the end included and nothing after it; their log-probability


def best_answers(
    model: Any,
    params: Any,
    requests: Sequence[Numbered],
    *,
    rows: int,
    widths: Sequence[int],
    put: Any,
    shares: int,
    whole: Sharding | None,
    eos_id: int,
) -> Iterator[tuple[int, Request, Best]]:
    """The best answer to each request by T5X's scoring, batch after batch.

    Args:
      model: the network.
      params: its parameters.
      requests: with their numbers.
      rows: beams that are decoded together.
      widths: of batches of questions.
      put: an array with a row a question, onto the devices.
      shares: devices that share a batch.
      whole: where results lie so that every process can read them.
      eos_id: the token that ends an answer.
    """
    groups: dict[tuple[int, int], list[Numbered]] = {}
    for number, request in requests:
        groups.setdefault((request.beams, request.max_length), []).append((number, request))
    for (beams, length), members in groups.items():
        search = _program(model, length, beams, eos_id, whole)
        count = batch_rows(len(members), max(1, rows // beams), shares)
        for chosen in batches(np.array([len(r.tokens) for _, r in members]), count):
            batch = [members[i] for i in chosen]
            width = rung(max(len(r.tokens) for _, r in batch), widths)
            alphas = [batch[min(i, len(batch) - 1)][1].alpha for i in range(count)]
            inputs = put(padded([r.tokens for _, r in batch], count, width))
            tokens, scores = jax.device_get(
                search(params, inputs, put(np.array(alphas, np.float32)))
            )
            for row, (number, request) in enumerate(batch):
                found = _ended(tokens[row, -1].tolist(), eos_id)
                # T5X divides the log-probability of an answer that ended by its length's penalty.
                penalty = ((5 + len(found)) / 6) ** request.alpha if found[-1] == eos_id else 1.0
                yield number, request, (found, float(scores[row, -1]) * penalty)


def _ended(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id) + 1] if eos_id in tokens else tokens


@lru_cache(maxsize=32)
def _program(model: Any, length: int, beams: int, eos_id: int, whole: Sharding | None) -> Any:
    def search(params: Any, inputs: jax.Array, alpha: jax.Array) -> tuple[jax.Array, jax.Array]:
        return beam_search(model, params, inputs, length, beams, T5XScoring(alpha), eos_id=eos_id)

    return jax.jit(search) if whole is None else jax.jit(search, out_shardings=whole)
