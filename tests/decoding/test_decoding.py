"""Cached greedy decoding and option scores against full forward passes, T5X and transformers."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from reference import greedy
from tiny_models import CONFIG, TINY, from_transformers, read_safetensors, small_model

from flanx import models
from flanx.decoding.score import score_continuations
from flanx.models.common import scanned

GREEDY = jax.jit(greedy, static_argnums=(0, 3))
SCORES = jax.jit(score_continuations, static_argnums=0)


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def greedy_by_full_forward(model, params, inputs, max_length):
    """The slow obvious version: the whole network again for every token."""
    rows = inputs.shape[0]
    tokens, scores = np.zeros((rows, max_length), np.int32), np.zeros(rows)
    done = np.zeros(rows, bool)
    forward = jax.jit(lambda decoder: model.apply({"params": params}, inputs, decoder))
    for step in range(max_length):
        decoder = np.pad(tokens[:, :-1], ((0, 0), (1, 0)))
        log_probs = np.asarray(jax.nn.log_softmax(forward(decoder)[:, step]))
        best = log_probs.argmax(-1)
        tokens[:, step] = np.where(done, 0, best)
        scores += np.where(done, 0, log_probs.max(-1))
        done |= tokens[:, step] == 1
    return tokens, scores


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_equals_full_forwards(seed):
    model, params, inputs = small_model(seed)
    # Make the end likely enough that rows end at different steps.
    kernel = params["decoder"]["logits_dense"]["kernel"]
    params["decoder"]["logits_dense"]["kernel"] = kernel.at[:, 1].multiply(1.5)
    want_tokens, want_scores = greedy_by_full_forward(model, params, inputs, 10)
    tokens, scores = GREEDY(model, params, inputs, 10)
    np.testing.assert_array_equal(tokens, want_tokens)
    np.testing.assert_allclose(scores, want_scores, atol=1e-4)


def test_greedy_of_a_scanned_model():
    model, params, inputs = small_model()
    want, _ = GREEDY(model, params, inputs, 6)
    stacked = models.build(replace(CONFIG, scan_layers=True))
    tokens, _ = GREEDY(stacked, scanned.to_scanned(params), inputs, 6)
    np.testing.assert_array_equal(tokens, want)


def test_greedy_stops_when_all_rows_are_done():
    model, params, inputs = small_model()
    steps = []
    original = type(model).step

    class Counting(type(model)):
        def step(self, *arguments):
            jax.debug.callback(lambda: steps.append(1))
            return original(self, *arguments)

    # All logits 0: the first token is taken at once, and is the end here.
    params["decoder"]["decoder_norm"]["scale"] = jnp.zeros((32,))
    tokens, scores = greedy(Counting(CONFIG), params, inputs, 8, eos_id=0)
    jax.effects_barrier()
    assert len(steps) == 1
    np.testing.assert_array_equal(tokens, np.zeros((6, 8)))
    np.testing.assert_allclose(scores, np.full(6, -np.log(12)), rtol=1e-6)


def test_scores_equal_full_forwards():
    model, params, inputs = small_model()
    rng = np.random.default_rng(5)
    options = np.zeros((6, 4, 7), np.int32)
    for row in range(6):
        for option in range(4):
            length = rng.integers(1, 7)
            options[row, option, :length] = rng.integers(2, 12, length)
            options[row, option, length] = 1
    options[2, 3] = 0
    scores = SCORES(model, params, inputs, options)
    assert scores.shape == (6, 4)
    assert scores[2, 3] == 0
    forward = jax.jit(model.apply)
    for option in range(4):
        targets = options[:, option]
        decoder = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
        logits = forward({"params": params}, inputs, decoder, targets)
        log_probs = np.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1)[..., 0]
        np.testing.assert_allclose(
            scores[:, option], np.sum(log_probs * (targets > 0), -1), atol=1e-4
        )


def test_against_t5x(shared_oracles: Path):
    folder = shared_oracles / "t5x_tiny"
    params = unflatten_dict(dict(np.load(folder / "params.npz")), sep="/")
    expected = np.load(folder / "expected.npz")
    model = models.build(TINY)
    inputs = jnp.asarray(expected["padded/batch/encoder_input_tokens"], jnp.int32)
    tokens, _ = GREEDY(model, params, inputs, 20)
    np.testing.assert_array_equal(tokens, expected["greedy/tokens"][:, 0])
    targets = jnp.asarray(expected["padded/batch/decoder_target_tokens"], jnp.int32)
    scores = SCORES(model, params, inputs, targets[:, None])
    np.testing.assert_allclose(scores[:, 0], expected["padded/scores"], atol=1e-4)


def test_against_transformers(shared_oracles: Path):
    folder = shared_oracles / "hf_tiny"
    params = from_transformers(read_safetensors(folder / "model.safetensors"))
    expected = np.load(folder / "expected.npz")
    model = models.build(TINY)
    inputs = jnp.asarray(
        np.where(expected["encoder_mask"], expected["encoder_input_ids"], 0), jnp.int32
    )
    mask = expected["decoder_mask"]
    decoder = jnp.asarray(expected["decoder_input_ids"], jnp.int32)
    logits = jax.jit(model.apply)({"params": params}, inputs, decoder)
    np.testing.assert_allclose(logits[mask], expected["logits"][mask], atol=1e-4)
    tokens, _ = GREEDY(model, params, inputs, 20)
    np.testing.assert_array_equal(tokens, expected["greedy"])
