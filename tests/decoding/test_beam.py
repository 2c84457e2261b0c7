"""Beam search against plain lists and full forward passes, T5X and transformers."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from tiny_models import TINY, from_transformers, read_safetensors, small_model

from flanx import models
from flanx.decoding.beam import HuggingFaceScoring, T5XScoring, beam_search

BEAM = jax.jit(beam_search, static_argnums=(0, 3, 4))
LENGTH = 8


@pytest.fixture(autouse=True)
def _exact_products():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module")
def ending():
    """A model that likes to end, so that rows finish at different steps; and a full forward pass of it."""
    with jax.default_matmul_precision("highest"):
        model, params, inputs = small_model(seed=2, layers=1)
        kernel = params["decoder"]["logits_dense"]["kernel"]
        params["decoder"]["logits_dense"]["kernel"] = kernel.at[:, 1].multiply(1.5)
        forward = jax.jit(
            lambda row, decoder: jax.nn.log_softmax(
                model.apply({"params": params}, jnp.repeat(row[None], len(decoder), 0), decoder)
            )
        )
    return model, params, inputs, forward


def beam_by_full_forward(forward, row, beams, scoring, eos_id=1):
    """[(score, tokens)], best first: hypotheses as lists, and the whole network again for every token."""
    hugging_face = isinstance(scoring, HuggingFaceScoring)

    def penalty(length):
        if hugging_face:
            return length**scoring.length_penalty
        return ((5 + length) / 6) ** scoring.alpha

    live, finished = [(0.0, [])], []
    for length in range(1, LENGTH + 1):
        decoder = np.zeros((beams, LENGTH), np.int32)
        for hypothesis, (_, tokens) in zip(decoder, live, strict=False):
            hypothesis[1:length] = tokens
        log_probs = np.asarray(forward(row, decoder), np.float64)[:, length - 1]
        candidates = [
            (score + log_probs[i, token], [*tokens, token])
            for i, (score, tokens) in enumerate(live)
            for token in range(log_probs.shape[-1])
        ]
        candidates = sorted(candidates, key=lambda pair: -pair[0])[: 2 * beams]
        live = []
        for rank, (score, tokens) in enumerate(candidates):
            ends = tokens[-1] == eos_id or (hugging_face and length == LENGTH)
            if ends and (rank < beams or not hugging_face):
                finished.append((score / penalty(length), tokens))
            elif not ends:
                live.append((score, tokens))
        live = live[:beams]
        finished = sorted(finished, key=lambda pair: -pair[0])[:beams]
        if not live:
            break
        if len(finished) == beams:
            at = {False: length, "never": LENGTH} if hugging_face else {None: LENGTH + 1}
            early = scoring.early_stopping if hugging_face else None
            if early is True or finished[-1][0] >= live[0][0] / penalty(at[early]):
                break
    return finished if finished or hugging_face else live


def assert_same(found, wanted, beams):
    tokens, scores = np.asarray(found[0]), np.asarray(found[1])
    for place in range(beams):
        score, answer = wanted[place] if place < len(wanted) else (-1e7, [])
        np.testing.assert_array_equal(tokens[-1 - place], answer + [0] * (LENGTH - len(answer)))
        np.testing.assert_allclose(scores[-1 - place], score, atol=1e-4)


def test_t5x_scoring_equals_full_forwards(ending):
    model, params, inputs, forward = ending
    alphas = [0.0, 0.6, 0.6, 0.6, 1.5, 3.0]
    tokens, scores = BEAM(model, params, inputs, LENGTH, 3, T5XScoring(jnp.asarray(alphas)))
    assert (np.asarray(tokens) == 1).any()
    for row, alpha in enumerate(alphas):
        wanted = beam_by_full_forward(forward, inputs[row], 3, T5XScoring(alpha))
        assert_same((tokens[row], scores[row]), wanted, 3)


@pytest.mark.parametrize(
    ("early_stopping", "length_penalty"), [(False, 1.0), (True, 1.0), ("never", 2.0)]
)
def test_hugging_face_scoring_equals_full_forwards(ending, early_stopping, length_penalty):
    model, params, inputs, forward = ending
    scoring = HuggingFaceScoring(length_penalty, early_stopping)
    tokens, scores = BEAM(model, params, inputs, LENGTH, 3, scoring)
    for row in range(len(inputs)):
        wanted = beam_by_full_forward(forward, inputs[row], 3, scoring)
        assert_same((tokens[row], scores[row]), wanted, 3)


def test_row_that_never_ends_gives_its_unfinished_answers(ending):
    model, params, inputs, forward = ending
    found = jax.jit(lambda row: beam_search(model, params, row, LENGTH, 2, eos_id=-1))(inputs[:1])
    # Log-probabilities, not divided by the brevity penalty.
    wanted = beam_by_full_forward(forward, inputs[0], 2, T5XScoring(), eos_id=-1)
    assert_same((found[0][0], found[1][0]), wanted, 2)


def test_against_t5x(shared_oracles: Path):
    folder = shared_oracles / "t5x_tiny"
    params = unflatten_dict(dict(np.load(folder / "params.npz")), sep="/")
    expected = np.load(folder / "expected.npz")
    inputs = jnp.asarray(expected["padded/batch/encoder_input_tokens"], jnp.int32)
    tokens, scores = BEAM(models.build(TINY), params, inputs, 20, 4)
    np.testing.assert_array_equal(tokens, expected["beam4/tokens"])
    np.testing.assert_allclose(scores, expected["beam4/scores"], atol=1e-4)


def test_against_transformers(shared_oracles: Path):
    folder = shared_oracles / "hf_tiny"
    params = from_transformers(read_safetensors(folder / "model.safetensors"))
    expected = np.load(folder / "expected.npz")
    inputs = np.where(expected["encoder_mask"], expected["encoder_input_ids"], 0).astype(np.int32)
    scoring = HuggingFaceScoring(length_penalty=0.6)
    tokens, scores = BEAM(models.build(TINY), params, inputs, 20, 4, scoring)
    np.testing.assert_array_equal(tokens[:, -1], expected["beam4"])
    np.testing.assert_allclose(scores[:, -1], expected["beam4_scores"], atol=1e-4)
