"""The device's side of continuous batching: a pool of slots, each of which decodes a request of its own.

A slot holds a request's place in its answer, its settings, its cache and its encoder memory. Four compiled functions
work on the pool: `prefill` runs the encoder over a group of requests, `insert` puts members of the group into slots,
`advance` makes a few tokens in all slots, and `resized` makes memories and caches larger or smaller. None of them
depends on which requests there are, and rows never look at each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from flanx.decoding.sampling import choose, likeliest, step_keys
from flanx.models.common.masks import BLOCKED
from flanx.models.common.scanned import to_unrolled, unrolled_model
from flanx.models.t5.stacks import KeyValue, Memory


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
    """S slots: their rows, caches [S, H, T, D] and encoder memories [S, H, W, D]."""

    rows: Rows
    cache: tuple[KeyValue, ...]
    memory: Memory


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
    prefill: Callable[..., Memory]
    insert: Callable[..., Pool]
    advance: Callable[..., tuple[Pool, Report]]
    resized: Callable[..., Pool]


@lru_cache(maxsize=32)
def programs(model: Any, layout: Layout | None, chunk: int, eos_id: int) -> Programs:
    """The compiled functions, shared by every engine with these arguments.

    Args:
      model: a `flanx.models.t5.network.T5`, scanned or not.
      layout: None for one device.
      chunk: most tokens of one `advance`.
      eos_id: the token that ends a row.
    """
    single = unrolled_model(model, {})[0]
    pool: Any = None
    memory: Any = None
    both: Any = None
    if layout is not None:
        # Trees of shardings, each of which stands for all arrays below it.
        rows, heads = cast(Any, layout.rows), cast(Any, layout.heads)
        memory = Memory(heads, rows)
        pool = Pool(rows, heads, memory)
        both = (pool, layout.whole)
    return Programs(
        unrolled=jax.jit(to_unrolled) if model.config.scan_layers else lambda params: params,
        empty=jax.jit(partial(empty, single), static_argnums=(0, 1, 2), out_shardings=pool),
        prefill=jax.jit(partial(prefill, single), out_shardings=memory),
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
    cfg = model.config
    shape = (slots, cfg.num_heads, width, cfg.head_dim)
    zeros = jnp.zeros(shape, jnp.dtype(cfg.dtype))
    bias = jnp.zeros((slots, 1, 1, width), jnp.float32)
    whole, real = jnp.zeros((slots,), jnp.int32), jnp.zeros((slots,), jnp.float32)
    return Pool(
        Rows(whole, whole, whole > 0, whole, real, whole, real, whole.astype(jnp.uint32)),
        model.empty_cache(slots, length),
        Memory(tuple((zeros, zeros) for _ in range(cfg.num_decoder_layers)), bias),
    )


def prefill(model: Any, params: Any, inputs: jax.Array) -> Memory:
    """The encoder memories of a group of requests: int32 [G, W], 0 for padding."""
    return model.apply({"params": params}, inputs, method="memory")


def insert(
    pool: Pool, group: Memory, rows: Rows, source: jax.Array, slot: jax.Array, count: jax.Array
) -> Pool:
    """Starts `count` requests: member source[i] of the group, with rows[i], in slot[i].

    Args:
      pool: given up; its memory is at least as wide as the group's.
      group: of `prefill`.
      rows: arrays [G].
      source: int32 [G].
      slot: int32 [G].
      count: int32 [].
    """

    def put(wide: jax.Array, narrow: jax.Array, i: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_slice_in_dim(narrow, source[i], 1, axis=0)
        return jax.lax.dynamic_update_slice(wide, row, (slot[i], 0, 0, 0))

    def start(i: jax.Array, pool: Pool) -> Pool:
        # What an earlier request left is blocked: memory beyond the group's width here, the cache by positions.
        bias = jnp.full((1, 1, 1, pool.memory.cross_bias.shape[-1]), BLOCKED, jnp.float32)
        blocked = jax.lax.dynamic_update_slice_in_dim(pool.memory.cross_bias, bias, slot[i], axis=0)
        cross = jax.tree.map(
            lambda wide, narrow: put(wide, narrow, i), pool.memory.cross, group.cross
        )
        return Pool(
            jax.tree.map(lambda old, new: old.at[slot[i]].set(new[i]), pool.rows, rows),
            pool.cache,
            Memory(cross, put(blocked, group.cross_bias, i)),
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
            pool.memory,
            method="decode_step",
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
    return Pool(rows, cache, pool.memory), report


def resized(pool: Pool, width: int, length: int) -> Pool:
    """The pool with encoder memories of another width, and caches for another number of positions.

    What is cut off must be padding, and positions not reached, in every live slot.
    """

    def fit(array: jax.Array, axis: int, size: int, fill: float = 0.0) -> jax.Array:
        more = size - array.shape[axis]
        if more <= 0:
            return jax.lax.slice_in_dim(array, 0, size, axis=axis)
        return jnp.pad(
            array, [(0, more if i == axis else 0) for i in range(4)], constant_values=fill
        )

    return Pool(
        pool.rows,
        jax.tree.map(lambda array: fit(array, 2, length), pool.cache),
        Memory(
            jax.tree.map(lambda array: fit(array, 2, width), pool.memory.cross),
            fit(pool.memory.cross_bias, 3, width, BLOCKED),
        ),
    )
