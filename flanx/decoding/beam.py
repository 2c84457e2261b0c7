"""Beam search, scored as T5X scores it or as transformers does.

Both keep the `beams` likeliest unfinished answers of each row and, apart from them, the `beams` best finished ones. A
step looks at the 2 * beams likeliest continuations, so that enough unfinished ones are left even if all beams end at
once. They differ in how a finished answer's length counts, in what counts as finished, and in when a row stops.

Keys and values of the past are never copied from beam to beam: see `flanx.models.t5.network.T5.step`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from flanx.decoding.requests import EOS_ID
from flanx.models.common.decode_state import Cache
from flanx.models.common.scanned import unrolled_model

NONE = -1e7  # T5X's score of an empty place


@partial(jax.tree_util.register_dataclass, data_fields=["alpha"], meta_fields=[])
@dataclass(frozen=True)
class T5XScoring:
    """Log-probability over the brevity penalty ((5 + length) / 6) ** alpha (Wu et al. 2016, section 7).

    A row stops when its worst finished answer beats whatever its best unfinished one could still become. Answers that
    did not end within the length are given only for a row without one that did, with their log-probabilities as scores.

    Attributes:
      alpha: a number for all rows or float32 [B]; 0 does not favour long answers.
    """

    alpha: float | jax.Array = 0.6


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["length_penalty"],
    meta_fields=["early_stopping"],
)
@dataclass(frozen=True)
class HuggingFaceScoring:
    """Log-probability over length ** length_penalty, as `transformers`' `generate(num_beams=...)` has it.

    An answer cut off at the greatest length counts as finished, and one that ends must be among the `beams` likeliest
    continuations to count.

    Attributes:
      length_penalty: a number for all rows or float32 [B].
      early_stopping: when a row stops: True, as soon as it has `beams` finished answers; False, when the best
        unfinished one, ended now, would not be among them; "never", when it could not be at any length.
    """

    length_penalty: float | jax.Array = 1.0
    early_stopping: bool | Literal["never"] = False


Scoring = T5XScoring | HuggingFaceScoring


class _Beams(NamedTuple):
    """`beams` answers of each row, best first."""

    tokens: jax.Array  # int32 [B, n, T], 0 after the end
    scores: jax.Array  # float32 [B, n]; of unfinished ones, log-probabilities


class _Loop(NamedTuple):
    step: jax.Array  # int32 scalar, positions done
    live: _Beams
    last: jax.Array  # int32 [B, n], the last token of each unfinished answer
    origin: jax.Array  # int32 [B, n, T], where its past lies in the cache
    finished: _Beams
    ended: jax.Array  # bool [B, n], False for an empty place among the finished
    open: jax.Array  # bool [B], rows that could still improve
    cache: Cache


def beam_search(
    model: Any,
    params: Any,
    prompt_tokens: jax.Array,
    max_length: int,
    beams: int = 4,
    scoring: Scoring = T5XScoring(),
    *,
    eos_id: int = EOS_ID,
) -> tuple[jax.Array, jax.Array]:
    """The `beams` best answers of each row (T5X: `decoding.beam_search`; transformers: `_beam_search`).

    What a row gets does not depend on the rows beside it. Pure and jit-able:
    `jax.jit(beam_search, static_argnums=(0, 3, 4))`.

    Args:
      model: the network; with scanned layers, the parameters are taken apart first.
      params: its parameters.
      prompt_tokens: int32 [B, L], 0 for padding.
      max_length: most tokens to produce, EOS included.
      beams: answers kept at every step, at least 1.
      scoring: `T5XScoring` or `HuggingFaceScoring`.
      eos_id: the token that ends an answer.

    Returns:
      tokens int32 [B, beams, max_length], EOS included and 0 after it; and scores float32 [B, beams], increasing, so
      that the best answer is the last. Places without an answer hold zeros and a score of -1e7.
    """
    model, params = unrolled_model(model, params)
    apply: Callable[..., Any] = partial(model.apply, {"params": params})
    rows = prompt_tokens.shape[0]
    first, prompt = apply(prompt_tokens, method="prefill")
    slots = jnp.broadcast_to(jnp.arange(beams), (rows, beams))
    nothing = _Beams(
        jnp.zeros((rows, beams, max_length), jnp.int32), jnp.full((rows, beams), NONE, jnp.float32)
    )

    def unfinished(loop: _Loop) -> jax.Array:
        return (loop.step < max_length) & jnp.any(loop.open)

    def advance(loop: _Loop) -> _Loop:
        origin = _put(loop.origin, slots, loop.step)
        logits, cache = apply(loop.last, loop.step, loop.cache, prompt, origin, method="step")
        log_probs, parents, tokens = _continuations(logits, loop.live.scores)
        answers = _put(_rows(loop.live.tokens, parents), tokens, loop.step)
        ends = tokens == eos_id
        finished, ended = _keep_finished(
            loop, _Beams(answers, log_probs), ends, max_length, scoring
        )
        if isinstance(scoring, HuggingFaceScoring):
            ends = ends | (loop.step + 1 == max_length)
        # Those that end are out of the search; of 2 * beams at least `beams` remain.
        scores, chosen = jax.lax.top_k(log_probs + jnp.where(ends, NONE, 0.0), beams)
        step = loop.step + 1
        return _Loop(
            step=step,
            live=_Beams(_rows(answers, chosen), scores),
            last=_rows(tokens, chosen),
            origin=_rows(origin, _rows(parents, chosen)),
            finished=finished,
            ended=ended,
            open=loop.open & _could_improve(scores, finished, ended, step, max_length, scoring),
            cache=cache,
        )

    loop = jax.lax.while_loop(
        unfinished,
        advance,
        _Loop(
            step=jnp.int32(0),
            # One beam to begin with, or all would be the same.
            live=nothing._replace(scores=nothing.scores.at[:, 0].set(0.0)),
            last=jnp.broadcast_to(first[:, None], (rows, beams)),
            origin=jnp.zeros((rows, beams, max_length), jnp.int32),
            finished=nothing,
            ended=jnp.zeros((rows, beams), bool),
            open=jnp.ones((rows,), bool),
            cache=model.empty_cache(rows, max_length, beams),
        ),
    )
    tokens, scores = loop.finished
    if isinstance(scoring, T5XScoring):
        none_ended = ~jnp.any(loop.ended, axis=1)
        tokens = jnp.where(none_ended[:, None, None], loop.live.tokens, tokens)
        scores = jnp.where(none_ended[:, None], loop.live.scores, scores)
    return tokens[:, ::-1], scores[:, ::-1]


def _continuations(
    logits: jax.Array, live_scores: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The 2n likeliest continuations of n beams: logits [B, n, V], scores [B, n] -> 3 x [B, 2n], likeliest first.

    Log-probabilities of the whole, the beams that they continue, their tokens. The likeliest of all are among the
    likeliest of each beam, so log-probabilities of the whole vocabulary are never written.
    """
    rows, beams, vocab_size = logits.shape
    kept, tokens = jax.lax.top_k(logits, min(2 * beams, vocab_size))
    log_probs = kept - jax.nn.logsumexp(logits, axis=-1, keepdims=True) + live_scores[..., None]
    best, at = jax.lax.top_k(log_probs.reshape(rows, -1), 2 * beams)
    return best, at // kept.shape[-1], _rows(tokens.reshape(rows, -1), at)


def _keep_finished(
    loop: _Loop, new: _Beams, ends: jax.Array, max_length: int, scoring: Scoring
) -> tuple[_Beams, jax.Array]:
    """The best of the finished answers there were and those of [B, 2n] that end now; a closed row keeps its own."""
    beams = loop.ended.shape[1]
    length = loop.step + 1
    if isinstance(scoring, HuggingFaceScoring):
        ends = (ends | (length == max_length)) & (jnp.arange(2 * beams) < beams)
    ends = ends & loop.open[:, None]
    scores = jnp.where(ends, new.scores / _penalty(scoring, length), NONE)
    # The old come first, and of equal scores top_k takes the first: what does not end never gets a place.
    best, chosen = jax.lax.top_k(jnp.concatenate([loop.finished.scores, scores], axis=1), beams)
    tokens = jnp.concatenate([loop.finished.tokens, new.tokens], axis=1)
    ended = jnp.concatenate([loop.ended, ends], axis=1)
    return _Beams(_rows(tokens, chosen), best), _rows(ended, chosen)


def _could_improve(
    live_scores: jax.Array,
    finished: _Beams,
    ended: jax.Array,
    length: jax.Array,
    max_length: int,
    scoring: Scoring,
) -> jax.Array:
    """bool [B]: whether an unfinished answer might yet be among the finished ones, as each scoring guesses it."""
    full = jnp.all(ended, axis=1)
    if isinstance(scoring, T5XScoring):
        # T5X counts the start token in the greatest length here, and so must this.
        hoped = live_scores[:, 0] / _penalty(scoring, max_length + 1)[:, 0]
        return ~(full & (finished.scores[:, -1] > hoped))
    if scoring.early_stopping is True:
        return ~full
    hoped = live_scores[:, 0] / _penalty(scoring, length)[:, 0]
    if scoring.early_stopping == "never":
        at_most = live_scores[:, 0] / _penalty(scoring, max_length)[:, 0]
        hoped = jnp.where(jnp.asarray(scoring.length_penalty) > 0, at_most, hoped)
    return ~(full & (finished.scores[:, -1] >= hoped))


def _penalty(scoring: Scoring, length: jax.Array | int) -> jax.Array:
    """What a log-probability of `length` tokens is divided by: float32 [1 or B, 1]."""
    if isinstance(scoring, T5XScoring):
        base, exponent = (5.0 + length) / 6.0, scoring.alpha
    else:
        base, exponent = length, scoring.length_penalty
    return jnp.power(jnp.float32(base), jnp.reshape(jnp.asarray(exponent, jnp.float32), (-1, 1)))


def _rows(x: jax.Array, chosen: jax.Array) -> jax.Array:
    """x [B, n, ...] at chosen [B, m] -> [B, m, ...]."""
    return jax.vmap(lambda row, at: row[at])(x, chosen)


def _put(x: jax.Array, values: jax.Array, step: jax.Array) -> jax.Array:
    """x [B, n, T] with values [B, n] at `step`."""
    return jax.lax.dynamic_update_slice_in_dim(x, values[..., None], step, axis=2)
