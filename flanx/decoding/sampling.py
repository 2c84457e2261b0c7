"""The next token of every row: the likeliest, or drawn with that row's temperature, top-k and top-p.

Rows of one batch may each want something else, so none of the parameters is static. What top-k and top-p keep is all
tokens at or above a threshold, which is found by bisection over the 2^32 float32 numbers: exact, without sorting the
vocabulary, and the same whatever k and p are. Tokens that tie at the threshold are all kept, as transformers' top-k
keeps them. A draw takes two random numbers a row rather than one for each token of the vocabulary.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

NEVER = -1e10  # logit of what is not to be drawn


def likeliest(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The first of each row's greatest logits [B, V]: tokens int32 [B], log-probabilities float32 [B]."""
    best = jnp.max(logits, axis=-1)
    # Two plain reductions take XLA's CPU compiler a quarter of the time of an argmax.
    vocab_size = logits.shape[-1]
    places = jnp.where(logits == best[:, None], jnp.arange(vocab_size), vocab_size - 1)
    return jnp.min(places, axis=-1).astype(jnp.int32), best - jax.nn.logsumexp(logits, axis=-1)


def choose(
    logits: jax.Array,
    temperature: jax.Array,
    top_k: jax.Array,
    top_p: jax.Array,
    keys: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """One token a row. Temperature is applied first, then top-k, then top-p to what top-k left, as transformers does.

    No id is excluded: like T5X and transformers, a model that puts weight on padding may produce it.

    Args:
      logits: float32 [B, V].
      temperature: float32 [B]; 0 takes the likeliest token.
      top_k: int32 [B], draw among the k likeliest; 0 for all.
      top_p: float32 [B], draw among the likeliest that together have this probability; 1 for all.
      keys: [B] JAX keys; a row's draw depends on its own key, logits and parameters alone.

    Returns:
      tokens int32 [B], and float32 [B], their log-probabilities under `logits` as they are: neither the temperature
      nor what was left out changes a score.
    """

    def drawn() -> tuple[jax.Array, jax.Array]:
        tokens = jnp.where(
            temperature > 0, _draw(logits, temperature, top_k, top_p, keys), likeliest(logits)[0]
        )
        return tokens, token_log_probs(logits, tokens)

    return jax.lax.cond(jnp.any(temperature > 0), drawn, lambda: likeliest(logits))


def token_log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """log softmax(logits [B, V]) at tokens [B]: float32 [B]."""
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def step_keys(keys: jax.Array, index: jax.Array) -> jax.Array:
    """Keys for position `index`, int32 [] or [B], of rows whose keys are `keys` [B]."""
    return jax.vmap(jax.random.fold_in)(keys, jnp.broadcast_to(index, keys.shape))


def _draw(
    logits: jax.Array,
    temperature: jax.Array,
    top_k: jax.Array,
    top_p: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """int32 [B]; rows of temperature 0 get some token."""
    logits = logits / jnp.where(temperature > 0, temperature, 1.0)[:, None]
    logits = jax.lax.cond(jnp.any(top_k > 0), lambda: keep_top_k(logits, top_k), lambda: logits)
    logits = jax.lax.cond(jnp.any(top_p < 1), lambda: keep_top_p(logits, top_p), lambda: logits)
    return draw(jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True)), keys)


def draw(weights: jax.Array, keys: jax.Array) -> jax.Array:
    """A token of each row, as likely as its weight: float32 [B, V], not negative, and keys [B] -> int32 [B].

    First a block of about sqrt(V) tokens, then a token in it, with a random number for each: two short sums instead of
    one over the vocabulary, and the 2^-23 steps of a float32 random number are fine enough for the rarest token.
    """
    rows, vocab_size = weights.shape
    size = math.isqrt(vocab_size - 1) + 1
    blocks = jnp.pad(weights, ((0, 0), (0, size * size - vocab_size))).reshape(rows, size, size)
    random = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
    block = _pick(jnp.sum(blocks, axis=-1), random[:, 0])
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * size + _pick(inside, random[:, 1])


def _pick(weights: jax.Array, random: jax.Array) -> jax.Array:
    """The first place where the running sum of weights [B, n] passes random [B] of the total: int32 [B].

    Rounding must not make it a place of weight 0: such places do not count.
    """
    sums = jnp.cumsum(weights, axis=-1)
    passed = sums > random[:, None] * sums[:, -1:]
    return jnp.argmax(jnp.where(weights > 0, 1 + passed, 0), axis=-1).astype(jnp.int32)


def keep_top_k(logits: jax.Array, top_k: jax.Array) -> jax.Array:
    """logits float32 [B, V] with NEVER below each row's k-th largest; 0, or more than V, keeps all."""
    ordered = _ordered(logits)
    wanted = jnp.where(top_k > 0, jnp.minimum(top_k, logits.shape[-1]), logits.shape[-1])
    threshold = _last(lambda at: jnp.sum(ordered >= at[:, None], axis=-1) >= wanted, wanted.shape)
    return jnp.where(ordered >= threshold[:, None], logits, NEVER)


def keep_top_p(logits: jax.Array, top_p: jax.Array) -> jax.Array:
    """logits float32 [B, V] with NEVER outside of the fewest likeliest tokens that have probability `top_p` together.

    The likeliest is always kept; 1 keeps all. (Holtzman et al. 2020, section 3.1)
    """
    ordered, probs = _ordered(logits), jax.nn.softmax(logits, axis=-1)

    def enough(at: jax.Array) -> jax.Array:
        return jnp.sum(jnp.where(ordered >= at[:, None], probs, 0.0), axis=-1) >= top_p

    threshold = jnp.minimum(_last(enough, top_p.shape), jnp.max(ordered, axis=-1))
    kept = (ordered >= threshold[:, None]) | (top_p >= 1)[:, None]
    return jnp.where(kept, logits, NEVER)


def _ordered(x: jax.Array) -> jax.Array:
    """float32 -> uint32 in the same order (the usual trick on the bits of IEEE 754 numbers)."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)


def _last(holds: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]) -> jax.Array:
    """The greatest uint32 for which `holds`, true up to some number and false from there on; 0 if for none."""

    def try_bit(i: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | (jnp.uint32(1) << (31 - i).astype(jnp.uint32))
        return jnp.where(holds(candidate), candidate, found)

    return jax.lax.fori_loop(0, 32, try_bit, jnp.zeros(shape, jnp.uint32))
