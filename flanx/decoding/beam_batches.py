"""Requests that want beam search, in batches that share the number of beams and the greatest length."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from flanx.decoding.batching import batch_rows, batches, padded, rung
from flanx.decoding.beam import HuggingFaceScoring, T5XScoring, beam_search
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
    """The best answer to each request by T5X's scoring or transformers', batch after batch.

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
    groups: dict[tuple[int, int, bool], list[Numbered]] = {}
    for number, request in requests:
        key = (request.beams, request.max_length, request.length_penalty is not None)
        groups.setdefault(key, []).append((number, request))
    for (beams, length, hugging_face), members in groups.items():
        search = _program(model, length, beams, hugging_face, eos_id, whole)
        count = batch_rows(len(members), max(1, rows // beams), shares)
        for chosen in batches(np.array([len(r.tokens) for _, r in members]), count):
            batch = [members[i] for i in chosen]
            width = rung(max(len(r.tokens) for _, r in batch), widths)
            exponents = [_exponent(batch[min(i, len(batch) - 1)][1]) for i in range(count)]
            inputs = put(padded([r.tokens for _, r in batch], count, width))
            tokens, scores = jax.device_get(
                search(params, inputs, put(np.array(exponents, np.float32)))
            )
            for row, (number, request) in enumerate(batch):
                found = _ended(tokens[row, -1].tolist(), eos_id)
                penalty = _penalty(request, len(found), ended=found[-1] == eos_id)
                yield number, request, (found, float(scores[row, -1]) * penalty)


def _exponent(request: Request) -> float:
    return request.alpha if request.length_penalty is None else request.length_penalty


def _penalty(request: Request, length: int, *, ended: bool) -> float:
    """What the answer's log-probability was divided by: in T5X's scoring only that of an answer that ended."""
    if request.length_penalty is not None:
        return length**request.length_penalty
    return ((5 + length) / 6) ** request.alpha if ended else 1.0


def _ended(tokens: list[int], eos_id: int) -> list[int]:
    return tokens[: tokens.index(eos_id) + 1] if eos_id in tokens else tokens


@lru_cache(maxsize=32)
def _program(
    model: Any, length: int, beams: int, hugging_face: bool, eos_id: int, whole: Sharding | None
) -> Any:
    scoring = HuggingFaceScoring if hugging_face else T5XScoring

    def search(params: Any, inputs: jax.Array, exponent: jax.Array) -> tuple[jax.Array, jax.Array]:
        return beam_search(model, params, inputs, length, beams, scoring(exponent), eos_id=eos_id)

    return jax.jit(search) if whole is None else jax.jit(search, out_shardings=whole)
