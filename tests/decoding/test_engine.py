"""Continuous batching against one request at a time, whatever else is in the batch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import greedy, sample

from flanx import models
from flanx.decoding.beam import HuggingFaceScoring, T5XScoring, beam_search
from flanx.decoding.engine import Engine
from flanx.decoding.requests import Request
from flanx.evaluation.predictor import layout_of
from flanx.models.common import scanned
from flanx.models.t5.config import T5Config
from flanx.sharding.config import MeshConfig
from flanx.sharding.mesh import make_mesh, replicated

CONFIG = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    vocab_size=30,
    dropout_rate=0.0,
    dtype="float32",
)
WIDTH, LENGTH = 64, 12
MODEL = models.build(CONFIG)


@pytest.fixture(scope="module")
def params():
    """Spread wide enough that answers differ, with an end that comes soon for some."""
    found = jax.jit(models.init_params, static_argnums=0)(MODEL, jax.random.key(3))
    found = jax.tree.map(lambda x: 1.5 * x, found)
    kernel = found["decoder"]["logits_dense"]["kernel"]
    found["decoder"]["logits_dense"]["kernel"] = kernel.at[:, 1].multiply(1.5)
    return found


def _requests(count, longest=WIDTH):
    rng = np.random.default_rng(count)
    return [
        Request(
            [*rng.integers(2, 30, rng.integers(1, longest)).tolist(), 1],
            int(rng.integers(1, LENGTH + 1)),
        )
        for _ in range(count)
    ]


def _engine(slots=4, **options):
    return Engine(MODEL, inputs_length=WIDTH, max_length=LENGTH, slots=slots, **options)


def _letters(tokens):
    """Token 2 is "a", and so on; the end and padding are nothing."""
    return "".join(chr(ord("a") + t - 2) for t in tokens if t > 1)


def _padded(requests):
    out = np.zeros((len(requests), WIDTH), np.int32)
    for row, request in zip(out, requests, strict=True):
        row[: len(request.tokens)] = request.tokens
    return jnp.asarray(out)


def _until_end(row, most):
    row = list(map(int, row))[:most]
    return tuple(row[: row.index(1) + 1] if 1 in row else row)


@pytest.fixture(scope="module")
def alone(params):
    """25 requests and the greedy answer to each, in one batch that runs to the longest."""
    requests = _requests(25)
    tokens, _ = jax.jit(greedy, static_argnums=(0, 3))(MODEL, params, _padded(requests), LENGTH)
    wanted = [
        _until_end(row, r.max_length) for row, r in zip(np.asarray(tokens), requests, strict=True)
    ]
    return requests, wanted


def test_greedy_answers_are_those_of_each_alone(params, alone):
    requests, wanted = alone
    found = dict(_engine().run(params, requests))
    assert [found[i].tokens for i in range(25)] == wanted
    ended = {found[i].ended for i in range(25)}
    assert ended == {"eos", "length"}
    for i, request in enumerate(requests):
        assert (found[i].ended == "eos") == (wanted[i][-1] == 1)
        assert len(wanted[i]) <= request.max_length


def test_caches_grow_with_the_answers(params, alone, monkeypatch):
    requests, wanted = zip(
        *(one for one in zip(*alone, strict=True) if len(one[0].tokens) <= 32), strict=True
    )
    engine = _engine()
    monkeypatch.setattr("flanx.decoding.engine.CHUNK", 2)
    monkeypatch.setattr(engine, "_lengths", (4, LENGTH))
    resized, programs = [], engine._programs

    def counted(pool, *sizes):
        resized.append(sizes)
        return programs.resized(pool, *sizes)

    monkeypatch.setattr(engine, "_programs", replace(programs, resized=counted))
    found = dict(engine.run(params, requests))
    assert [found[i].tokens for i in range(len(wanted))] == list(wanted)
    assert (32, LENGTH) in resized


def test_over_several_devices_and_from_scanned_layers(params, alone):
    requests, wanted = zip(
        *(one for one in zip(*alone, strict=True) if len(one[0].tokens) <= 32), strict=True
    )
    mesh = make_mesh(MeshConfig(data=4, model=2))
    model = models.build(replace(CONFIG, scan_layers=True))
    spread = jax.device_put(scanned.to_scanned(params), replicated(mesh))
    engine = Engine(
        model, inputs_length=WIDTH, max_length=LENGTH, slots=8, layout=layout_of(mesh, 2)
    )
    found = dict(engine.run(spread, requests))
    assert [found[i].tokens for i in range(len(wanted))] == list(wanted)


def test_draws_depend_on_the_request_alone(params):
    requests = [
        replace(
            request,
            max_length=LENGTH,
            temperature=0.0 if i % 4 == 0 else 0.5 + i % 3,
            top_k=i % 5,
            top_p=0.9 if i % 2 else 1.0,
            seed=i * 400_000_000,
        )
        for i, request in enumerate(_requests(10, longest=32))
    ]
    column = {
        name: jnp.asarray([getattr(r, name) for r in requests])
        for name in ("temperature", "top_k", "top_p")
    }
    keys = jax.vmap(jax.random.key)(np.array([r.seed for r in requests], np.uint32))
    tokens, scores = jax.jit(sample, static_argnums=(0, 3))(
        MODEL, params, _padded(requests), LENGTH, *column.values(), keys
    )
    found = dict(_engine().run(params, requests))
    for i, request in enumerate(requests):
        assert found[i].tokens == _until_end(tokens[i], request.max_length)
        assert found[i].log_probability == pytest.approx(float(scores[i]), rel=1e-4)
    backwards = dict(_engine().run(params, requests[::-1]))
    assert [backwards[9 - i] for i in range(10)] == [found[i] for i in range(10)]


def test_beam_requests_are_searched(params):
    requests = [
        replace(request, max_length=LENGTH, beams=3, alpha=0.3 * i)
        for i, request in enumerate(_requests(3, longest=32))
    ]
    plain = replace(requests[0], beams=1)
    alphas = jnp.asarray([r.alpha for r in requests])
    tokens, scores = jax.jit(beam_search, static_argnums=(0, 3, 4))(
        MODEL, params, _padded(requests), LENGTH, 3, T5XScoring(alphas)
    )
    found = dict(_engine().run(params, [plain, *requests]))
    assert found[0].tokens == dict(_engine().run(params, [plain]))[0].tokens
    for i, request in enumerate(requests):
        result = found[1 + i]
        assert result.tokens == _until_end(tokens[i, -1], LENGTH)
        penalty = ((5 + len(result.tokens)) / 6) ** request.alpha if result.ended == "eos" else 1
        assert result.log_probability == pytest.approx(float(scores[i, -1]) * penalty, rel=1e-5)


def test_beams_are_scored_as_transformers_does_where_asked(params):
    penalties = [0.0, 1.0, 2.5]
    requests = [
        replace(request, max_length=LENGTH, beams=3, length_penalty=penalty)
        for request, penalty in zip(_requests(3, longest=32), penalties, strict=True)
    ]
    tokens, scores = jax.jit(beam_search, static_argnums=(0, 3, 4))(
        MODEL, params, _padded(requests), LENGTH, 3, HuggingFaceScoring(jnp.asarray(penalties))
    )
    found = dict(_engine().run(params, requests))
    for i, penalty in enumerate(penalties):
        assert found[i].tokens == _until_end(tokens[i, -1], LENGTH)
        wanted = float(scores[i, -1]) * len(found[i].tokens) ** penalty
        assert found[i].log_probability == pytest.approx(wanted, rel=1e-5)


def test_stop_texts_end_an_answer_and_are_cut(params, alone):
    requests, wanted = alone
    engine = _engine(decode=_letters)
    place, tokens = max(enumerate(wanted), key=lambda one: len(one[1]))
    text = _letters(tokens)
    assert len(text) >= 6
    stop = text[4:6]  # two tokens
    cut = text.index(stop)
    asked = [replace(r, max_length=LENGTH, stop=("never", stop)) for r in requests]
    result = dict(engine.run(params, asked))[place]
    assert (result.text, result.ended) == (text[:cut], "stop")
    assert result.tokens == tokens[: cut + 2]
    whole = dict(engine.run(params, requests))[place]
    assert whole.text == text


def test_text_is_told_as_it_grows(params, alone):
    requests, wanted = alone
    told = []
    engine = _engine(decode=_letters)
    place = max(range(25), key=lambda i: len(wanted[i]))
    ((_, result),) = engine.run(params, [requests[place]], lambda number, text: told.append(text))
    assert told and told == sorted(set(told), key=len)
    assert all(result.text.startswith(text) for text in told)


def test_the_next_request_takes_the_place_of_one_that_is_done(params, alone, monkeypatch):
    """As many steps as any order needs in which no slot waits, fewer than batches that run to their longest."""
    requests, wanted = alone
    engine = _engine()
    steps = []

    def counted(*arguments):
        pool, report = programs.advance(*arguments)
        steps.append(int(np.max(report.made)))
        return pool, report

    programs = engine._programs
    monkeypatch.setattr(engine, "_programs", replace(programs, advance=counted))
    assert len(list(engine.run(params, requests))) == 25
    lengths = [len(tokens) for tokens in wanted]
    assert sum(steps) <= sum(lengths) / 4 + max(lengths) * 3 / 4
    assert sum(steps) < sum(max(lengths[i : i + 4]) for i in range(0, 25, 4))


def test_requests_are_taken_a_window_ahead_only(params):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield Request([5, 1], 1)

    results = _engine().run(params, endless())
    assert next(results)[1].ended in ("length", "eos")
    assert len(taken) == 32


def test_nothing_to_answer(params):
    assert list(_engine().run(params, [])) == []


def test_what_the_engine_cannot_do(params):
    with pytest.raises(ValueError, match="max_length=13 of a request is beyond the engine's 12"):
        list(_engine().run(params, [Request([1], 13)]))
    with pytest.raises(ValueError, match="stop texts need"):
        list(_engine().run(params, [Request([1], 3, stop=("x",))]))
