"""What is drawn, how often, and that it depends on nothing but its own row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import sample
from tiny_models import small_model

from flanx.decoding import sampling
from flanx.decoding.sampling import choose, draw, keep_top_k, keep_top_p, step_keys

SAMPLE = jax.jit(sample, static_argnums=(0, 3))
CHOOSE = jax.jit(choose)
STEP_KEYS = jax.jit(step_keys)
# Rows: greedy, temperature alone, top-k, top-p, both, greedy again.
TEMPERATURE = jnp.asarray([0.0, 1.0, 1.5, 0.7, 2.0, 0.0])
TOP_K = jnp.asarray([0, 0, 3, 0, 5, 2], jnp.int32)
TOP_P = jnp.asarray([1.0, 1.0, 1.0, 0.8, 0.9, 0.5])


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def kept(logits) -> np.ndarray:
    return np.asarray(logits) > sampling.NEVER


def test_top_k_keeps_the_k_likeliest_and_what_ties_with_them():
    rows = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    rows[4, :6] = 5.0
    top_k = jnp.asarray([0, 1, 7, 1000, 3])
    wanted = [40, 1, 7, 40, 6]
    found = keep_top_k(jnp.asarray(rows), top_k)
    for row, count in enumerate(wanted):
        best = np.argsort(-rows[row], kind="stable")[:count]
        assert set(np.flatnonzero(kept(found[row]))) == set(best)
        np.testing.assert_array_equal(found[row, best], rows[row, best])


def test_top_p_keeps_the_fewest_that_reach_p():
    probs = np.asarray([0.4, 0.3, 0.15, 0.1, 0.05], np.float32)
    logits = jnp.log(jnp.asarray([np.roll(probs, shift) for shift in range(6)]))
    top_p = jnp.asarray([0.0, 0.39, 0.5, 0.75, 0.97, 1.0])
    found = kept(keep_top_p(logits, top_p))
    for row, count in enumerate([1, 1, 2, 3, 5, 5]):
        np.testing.assert_array_equal(np.roll(found[row], -row), np.arange(5) < count)


def test_draws_follow_the_weights():
    weights = np.asarray([0.5, 0.0, 0.2, 0.0, 0.0, 0.25, 0.05, 0.0])
    count = 20_000
    keys = jax.random.split(jax.random.key(0), count)
    tokens = jax.jit(draw)(jnp.broadcast_to(jnp.asarray(weights, jnp.float32), (count, 8)), keys)
    found = np.bincount(tokens, minlength=8) / count
    assert (found[weights == 0] == 0).all()
    np.testing.assert_allclose(found, weights, atol=4 * 0.5 / np.sqrt(count))


def test_temperature_flattens():
    logits = jnp.broadcast_to(jnp.log(jnp.asarray([0.9, 0.1])), (8000, 2))
    keys = jax.random.split(jax.random.key(3), 8000)
    whole, real = jnp.zeros(8000, jnp.int32), jnp.ones(8000)
    tokens, log_probs = CHOOSE(logits, 2.0 * real, whole, real, keys)
    # 0.9 and 0.1 to the power of 1/2 are 3 to 1.
    np.testing.assert_allclose(np.mean(tokens), 0.25, atol=0.02)
    np.testing.assert_allclose(log_probs, np.log([0.9, 0.1])[np.asarray(tokens)], rtol=1e-5)


def test_a_row_is_drawn_alike_in_any_batch():
    logits = jax.random.normal(jax.random.key(1), (6, 50))
    keys = jax.random.split(jax.random.key(2), 6)
    together, scores = CHOOSE(logits, TEMPERATURE, TOP_K, TOP_P, keys)
    np.testing.assert_array_equal(
        together[jnp.asarray([0, 5])], logits.argmax(-1)[jnp.asarray([0, 5])]
    )
    for row in range(6):
        part = slice(row, row + 1)
        alone, score = CHOOSE(logits[part], TEMPERATURE[part], TOP_K[part], TOP_P[part], keys[part])
        assert alone[0] == together[row]
        np.testing.assert_allclose(score[0], scores[row], rtol=1e-6)


def test_sampling_equals_full_forwards():
    model, params, inputs = small_model(layers=1)
    keys = jax.random.split(jax.random.key(7), 6)
    tokens, scores = SAMPLE(model, params, inputs, 8, TEMPERATURE, TOP_K, TOP_P, keys)
    forward = jax.jit(
        lambda decoder, step: model.apply({"params": params}, inputs, decoder)[:, step]
    )
    wanted, wanted_scores = np.zeros((6, 8), np.int32), np.zeros(6)
    done = np.zeros(6, bool)
    for step in range(8):
        logits = forward(np.pad(wanted[:, :-1], ((0, 0), (1, 0))), step)
        chosen, gain = CHOOSE(logits, TEMPERATURE, TOP_K, TOP_P, STEP_KEYS(keys, step))
        wanted[:, step] = np.where(done, 0, chosen)
        wanted_scores += np.where(done, 0, gain)
        done |= wanted[:, step] == 1
    np.testing.assert_array_equal(tokens, wanted)
    np.testing.assert_allclose(scores, wanted_scores, atol=1e-4)


def test_rows_at_positions_of_their_own():
    """Two rows, one three tokens ahead, put together from prompts and caches made apart."""
    model, params, inputs = small_model(layers=1)
    answer = np.asarray([[0, 4, 7, 2, 9], [0, 3, 3, 8, 5]], np.int32)
    wanted = jax.jit(model.apply)({"params": params}, inputs[:2], answer)

    @jax.jit
    def step(tokens, index, cache, prompt):
        return model.apply({"params": params}, tokens, index, cache, prompt, method="step")

    read = jax.jit(lambda rows: model.apply({"params": params}, rows, method="prefill")[1])
    insert = jax.jit(lambda slots, new: jax.tree.map(lambda s, n: s.at[:2].set(n), slots, new))
    # Another request's keys and values lie in the second row.
    cache, prompt = model.empty_cache(2, 5), read(inputs[2:4])
    _, cache = step(np.asarray([6, 6], np.int32), np.int32(1), cache, prompt)
    prompt = insert(prompt, read(inputs[:2]))
    for turn in range(8):
        position = np.asarray([turn, turn - 3], np.int32)
        index = np.clip(position, 0, 4)
        logits, cache = step(answer[np.arange(2), index], index, cache, prompt)
        for row in np.flatnonzero((position >= 0) & (position < 5)):
            np.testing.assert_allclose(logits[row], wanted[row, position[row]], atol=1e-4)
