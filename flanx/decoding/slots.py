"""The device's side of continuous batching: a pool of slots, each of which decodes a request of its own.

A slot holds a request's place in its answer, its settings, its cache and what steps read of its prompt. Four compiled
functions work on the pool: `prefill` reads the prompts of a group of requests, `insert` puts members of the group into
slots, `advance` makes a few tokens in all slots, and `resized` makes prompts and caches larger or smaller. None depends
on which requests there are, and rows never look at each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from flanx.decoding.sampling import choose, likeliest, step_keys
from flanx.models.common.decode_state import Cache, Prompt
from flanx.models.common.scanned import to_unrolled, unrolled_model


class Rows(NamedTuple):
    """What is small, of each of S slots.

    Attributes:
      token: int32 [S], the last token.
      position: int32 [S], tokens made so far.
      live: bool [S], whether there is more to make.
      limit: int32 [S], most tokens.
      temperature: float32 [S].
      top_k: int32 [S].
      top_p: float32 [S].
      seed: uint32 [S].
    """

    token: Any
    position: Any
    live: Any
    limit: Any
    temperature: Any
    top_k: Any
    top_p: Any
    seed: Any


class Pool(NamedTuple):
    """S slots: their rows, caches [S, H, T, D] and prompts [S, H, W, D]."""

    rows: Rows
    cache: Cache
    prompt: Prompt


class Group(NamedTuple):
    """Prompts that were read together: the first token that a step is given, int32 [G], and what steps read."""

    first: jax.Array
    prompt: Prompt


class Report(NamedTuple):
    """What `advance` made: row s has tokens[:made[s], s].

    Attributes:
      tokens: int32 [chunk, S].
      log_probs: float32 [chunk, S].
      made: int32 [S].
      live: bool [S].
    """

    tokens: jax.Array
    log_probs: jax.Array
    made: jax.Array
    live: jax.Array


@dataclass(frozen=True)
class Layout:
    """How a pool lies on several devices.

    Attributes:
      rows: arrays with a row a slot.
      heads: arrays [rows, heads, ...].
      whole: what every device has, and every process can read.
      shares: devices among which rows are split; the number of slots is a multiple of it.
    """

    rows: NamedSharding
    heads: NamedSharding
    whole: NamedSharding
    shares: int


@dataclass(frozen=True)
class Programs:
    """The compiled functions of one model; see the functions of these names below."""

    unrolled: Callable[..., Any]
    empty: Callable[..., Pool]
    prefill: Callable[..., Group]
    insert: Callable[..., Pool]
    advance: Callable[..., tuple[Pool, Report]]
    resized: Callable[..., Pool]


@lru_cache(maxsize=32)
def programs(model: Any, layout: Layout | None, chunk: int, eos_id: int) -> Programs:
    """The compiled functions, shared by every engine with these arguments.

    Args:
      model: a network of `flanx.models.build`, scanned or not.
      layout: None for one device.
      chunk: most tokens of one `advance`.
      eos_id: the token that ends a row.
    """
    single = unrolled_model(model, {})[0]
    pool: Any = None
    group: Any = None
    both: Any = None
    if layout is not None:
        # Trees of shardings, each of which stands for all arrays below it.
        rows, heads = cast(Any, layout.rows), cast(Any, layout.heads)
        prompt = Prompt(heads, rows)
        group = Group(rows, prompt)
        pool = Pool(rows, heads, prompt)
        both = (pool, layout.whole)
    return Programs(
        unrolled=jax.jit(to_unrolled) if model.config.scan_layers else lambda params: params,
        empty=jax.jit(partial(empty, single), static_argnums=(0, 1, 2), out_shardings=pool),
        prefill=jax.jit(partial(prefill, single), out_shardings=group),
        insert=jax.jit(insert, donate_argnums=0, out_shardings=pool),
        advance=jax.jit(
            partial(advance, single, chunk, eos_id),
            donate_argnums=1,
            static_argnums=5,
            out_shardings=both,
        ),
        resized=jax.jit(resized, static_argnums=(1, 2), out_shardings=pool),
    )


def empty(model: Any, slots: int, width: int, length: int) -> Pool:
    """A pool in which nothing lives, for questions of `width` tokens and answers of `length`."""
    whole, real = jnp.zeros((slots,), jnp.int32), jnp.zeros((slots,), jnp.float32)
    return Pool(
        Rows(whole, whole, whole > 0, whole, real, whole, real, whole.astype(jnp.uint32)),
        model.empty_cache(slots, length),
        model.empty_prompt(slots, width),
    )


def prefill(model: Any, params: Any, inputs: jax.Array) -> Group:
    """Reads the prompts of a group of requests: int32 [G, W], 0 for padding."""
    return Group(*model.apply({"params": params}, inputs, method="prefill"))


def insert(
    pool: Pool, group: Group, rows: Rows, source: jax.Array, slot: jax.Array, count: jax.Array
) -> Pool:
    """Starts `count` requests: member source[i] of the group, with rows[i], in slot[i].

    What an earlier request left is out of sight: of its prompt beyond the new one's length, of its cache by positions.

    Args:
      pool: given up; its prompts are at least as wide as the group's.
      group: of `prefill`, which knows the requests' first tokens.
      rows: arrays [G].
      source: int32 [G].
      slot: int32 [G].
      count: int32 [].
    """

    def start(i: jax.Array, pool: Pool) -> Pool:
        def put(wide: jax.Array, narrow: jax.Array) -> jax.Array:
            row = jax.lax.dynamic_slice_in_dim(narrow, source[i], 1, axis=0)
            return jax.lax.dynamic_update_slice(wide, row, (slot[i], *[0] * (wide.ndim - 1)))

        started = jax.tree.map(lambda old, new: old.at[slot[i]].set(new[i]), pool.rows, rows)
        first = started.token.at[slot[i]].set(group.first[source[i]])
        return Pool(
            started._replace(token=first),
            pool.cache,
            jax.tree.map(put, pool.prompt, group.prompt),
        )

    return jax.lax.fori_loop(0, count, start, pool)


def advance(
    model: Any,
    chunk: int,
    eos_id: int,
    params: Any,
    pool: Pool,
    keep: jax.Array,
    steps: jax.Array,
    enough: jax.Array,
    draws: bool,
) -> tuple[Pool, Report]:
    """Makes tokens in all live slots at once.

    Ends after `steps` of them (at most `chunk`), or when `enough` slots have become free, or nothing lives.

    Args:
      params: unrolled.
      pool: given up.
      keep: bool [S]; False ends a slot.
      steps: int32 [].
      enough: int32 [].
      draws: whether a live slot has a temperature above 0; without, less is compiled.
    """
    slots = keep.shape[0]
    rows = pool.rows._replace(live=pool.rows.live & keep)
    begun, started = jnp.sum(rows.live), rows.position
    keys = jax.vmap(jax.random.key)(rows.seed)

    def chosen(logits: jax.Array, rows: Rows) -> tuple[jax.Array, jax.Array]:
        if not draws:
            return likeliest(logits)
        temperature = jnp.where(rows.live, rows.temperature, 0.0)
        return choose(logits, temperature, rows.top_k, rows.top_p, step_keys(keys, rows.position))

    def more(loop: Any) -> jax.Array:
        step, rows, *_ = loop
        left = jnp.sum(rows.live)
        return (step < jnp.minimum(steps, chunk)) & (left > 0) & (begun - left < enough)

    def one(loop: Any) -> Any:
        step, rows, cache, tokens, log_probs = loop
        logits, cache = model.apply(
            {"params": params},
            rows.token,
            rows.position,
            cache,
            pool.prompt,
            method="step",
        )
        token, log_prob = chosen(logits, rows)
        # A slot that is done writes its last place of the cache again and again.
        position = rows.position + rows.live
        live = rows.live & (token != eos_id) & (position < rows.limit)
        rows = rows._replace(token=token, position=position, live=live)
        return step + 1, rows, cache, tokens.at[step].set(token), log_probs.at[step].set(log_prob)

    first = (
        jnp.int32(0),
        rows,
        pool.cache,
        jnp.zeros((chunk, slots), jnp.int32),
        jnp.zeros((chunk, slots), jnp.float32),
    )
    _, rows, cache, tokens, log_probs = jax.lax.while_loop(more, one, first)
    report = Report(tokens, log_probs, rows.position - started, rows.live)
    return Pool(rows, cache, pool.prompt), report


def resized(pool: Pool, width: int, length: int) -> Pool:
    """The pool with prompts of another width, and caches for another number of positions.

    What is cut off must be padding, and positions not reached, in every live slot.
    """

    def fit(array: jax.Array, size: int) -> jax.Array:
        more = size - array.shape[2]
        if more <= 0:
            return jax.lax.slice_in_dim(array, 0, size, axis=2)
        return jnp.pad(array, ((0, 0), (0, 0), (0, more), (0, 0)))

    key_values = jax.tree.map(partial(fit, size=width), pool.prompt.key_values)
    return Pool(
        pool.rows,
        jax.tree.map(partial(fit, size=length), pool.cache),
        pool.prompt._replace(key_values=key_values),
    )
