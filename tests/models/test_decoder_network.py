"""What every decoder promises: isolation, prefixes, padding, decoding, scan, remat, dropout, dtypes."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx import models
from flanx.models.common import masks, products, row_attention, scanned
from flanx.models.common.parameters import Parameters

sys.path.insert(0, str(Path(__file__).parent))
import decoders as dc

every_family = pytest.mark.parametrize("name", dc.FAMILIES)
CLOSE = {"rtol": 0, "atol": 2e-5}


@every_family
def test_the_network_makes_what_the_table_says(name):
    for config in (dc.FAMILIES[name], replace(dc.FAMILIES[name], scan_layers=True)):
        model = models.build(config)
        tree = jax.eval_shape(partial(models.init_params, model), jax.random.key(0))
        found = {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree.leaves_with_path(tree)
        }
        table: Parameters = config.parameters()
        if not config.scan_layers:
            assert {path: leaf.shape for path, leaf in found.items()} == table.shapes()
        for path, leaf in found.items():
            assert len(table.logical_axes(path, leaf.ndim)) == leaf.ndim
        assert sum(leaf.size for leaf in found.values()) == config.num_parameters()
    assert models.config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize("name", ["palm", "gemma3"])
def test_packed_row_equals_its_examples_alone(name):
    config = dc.FAMILIES[name]
    params = dc.params_of(config)
    examples = [dc.tokens(i, n) for i, n in enumerate((7, 5, 2))]
    row = dc.packed(examples, 16)
    segments = {"decoder_segment_ids": row["segments"]}
    segments |= {"decoder_positions": row["positions"]} if name != "gemma3" else {}
    logits = dc.forward(config, params, row["tokens"], row["tokens"], **segments)
    # Alone, with whatever behind it: a causal network looks at nothing there.
    rows = np.stack([np.resize(example, 16) for example in examples])
    alone, at = dc.forward(config, params, rows), 0
    for number, example in enumerate(examples):
        here = slice(at, at + len(example))
        np.testing.assert_allclose(logits[0, here], alone[number, : len(example)], **CLOSE)
        at += len(example)


def test_padding_is_told_by_targets_or_by_segments():
    config = dc.FAMILIES["gemma3"]
    params, row = dc.params_of(config), dc.tokens(0, 2, 6)
    want = dc.forward(config, params, row)
    wide = np.pad(row, ((0, 0), (0, 4)), constant_values=9)
    targets = np.pad(np.ones_like(row), ((0, 0), (0, 4)))
    np.testing.assert_allclose(dc.forward(config, params, wide, targets)[:, :6], want, **CLOSE)
    # Where segments are given, a target of 0 is a token.
    zeros = np.zeros_like(wide)
    found = dc.forward(config, params, wide, zeros, decoder_segment_ids=targets)
    np.testing.assert_allclose(found[:, :6], want, **CLOSE)


def test_masks_by_hand():
    def seen(mask):
        return (np.asarray(mask)[:, 0] == 0).astype(int).tolist()

    prefix = np.array([[1, 1, 0, 0]])
    assert seen(masks.causal_mask(4, None, None, prefix)) == [
        [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    ]
    assert seen(masks.causal_mask(4, None, None, None, window=2)) == [
        [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    ]
    segments = np.array([[1, 1, 2, 2]])
    both = np.array([[1, 1, 1, 1]])
    assert seen(masks.causal_mask(4, None, segments, both)) == [
        [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    ]
    # A prompt of 3, and a query at position 4 that sees 3 positions, its own among them.
    lengths, at = jnp.asarray([3]), jnp.asarray([4])
    assert seen(masks.prompt_mask(lengths, 4, at, 3)) == [[[0, 0, 1, 0]]]
    assert seen(masks.step_mask(jnp.int32(3), 5, 2)) == [[[0, 0, 1, 1, 0]]]


@pytest.mark.parametrize(("name", "both_ways"), [("gemma2", False), ("palm", True)])
def test_prefill_and_steps_equal_full_forwards(name, both_ways):
    config = dc.FAMILIES[name]
    params = dc.params_of(config)
    lengths, answer = [7, 3, 1], 6
    prompt, answers = np.zeros((3, 8), np.int32), dc.tokens(5, 3, answer)
    for row, length in enumerate(lengths):
        prompt[row, :length] = dc.tokens(row, length)
    logits = dc.steps(config, params, prompt, lengths, answers, both_ways=both_ways)
    whole = np.zeros((3, max(lengths) + answer), np.int32)
    for row, length in enumerate(lengths):
        whole[row, : length + answer] = np.concatenate([prompt[row, :length], answers[row]])
    prefix = (np.arange(whole.shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    options = {"decoder_causal_attention": prefix} if both_ways else {}
    want = dc.forward(config, params, whole, **options)
    for row, length in enumerate(lengths):
        here = slice(length - 1, length - 1 + answer)
        np.testing.assert_allclose(logits[row], want[row, here], **CLOSE)


def test_a_prompts_length_is_told_or_runs_to_the_last_token_that_is_not_zero():
    config = dc.FAMILIES["llama"]
    prefill = partial(dc.method(config, "prefill"), dc.params_of(config))
    prompt = np.array([[5, 0, 7, 0], [0, 0, 0, 0], [1, 2, 3, 4]], np.int32)
    first, state = prefill(prompt)
    assert first.tolist() == [7, 0, 4]
    assert state.lengths.tolist() == [2, 0, 3]
    first, state = prefill(prompt, jnp.asarray([4, 2, 1]))
    assert first.tolist() == [0, 0, 1]
    assert state.lengths.tolist() == [3, 1, 0]


@pytest.mark.parametrize("name", [pytest.param("palm", marks=pytest.mark.nightly), "gemma2"])
def test_rows_at_positions_of_their_own_and_beams_that_change_places(name):
    config = dc.FAMILIES[name]
    params = dc.params_of(config)
    model, step = models.build(config), partial(dc.method(config, "step"), params)
    lengths, prompt = [4, 2], dc.tokens(0, 2, 4)
    prompt[1, 2:] = 0
    first, state = dc.method(config, "prefill")(params, prompt, jnp.asarray(lengths))
    # Rows one step apart: the second starts where the first has its second token, over another's leavings.
    answers = dc.tokens(7, 2, 6)
    want = dc.steps(config, params, prompt, lengths, answers)
    cache = jax.tree.map(lambda leaf: leaf + 3.0, model.empty_cache(2, 6))
    given = np.concatenate([np.asarray(first)[:, None], answers], axis=1)
    for index in range(5):
        at = np.array([index + 1, index])
        if index == 0:
            start = jnp.asarray([given[0, 0], 0])
            _, cache = step(start, jnp.asarray([0, 0]), cache, state)
        logits, cache = step(given[[0, 1], at], jnp.asarray(at), cache, state)
        np.testing.assert_allclose(logits, want[[0, 1], at], **CLOSE)
    # Beams: slots stay, `origin` says whose past a beam takes over.
    beams, length = 3, 4
    rng, cache = np.random.default_rng(3), model.empty_cache(2, length, beams)
    origin = np.zeros((2, beams, length), np.int32)
    past: np.ndarray = np.zeros((2, beams, 0), np.int32)
    given = np.repeat(np.asarray(first)[:, None], beams, axis=1)
    for index in range(length):
        origin[:, :, index] = np.arange(beams)
        logits, cache = step(given, jnp.int32(index), cache, state, jnp.asarray(origin))
        for row, real in enumerate(lengths):
            whole = np.zeros((beams, 8), np.int32)
            whole[:, :real] = prompt[row, :real]
            whole[:, real : real + index] = past[row]
            alone = dc.forward(config, params, whole)[:, real + index - 1]
            np.testing.assert_allclose(logits[row], alone, **CLOSE)
        chosen = rng.integers(0, beams, (2, beams))
        origin = np.take_along_axis(origin, chosen[:, :, None], axis=1)
        given = dc.tokens(40 + index, 2, beams)
        past = np.take_along_axis(past, chosen[:, :, None], axis=1)
        past = np.concatenate([past, given[:, :, None]], axis=2)


@pytest.mark.parametrize(
    ("name", "scan", "remat"),
    [("palm", False, "full"), ("gemma3", True, "names")],
)
def test_scan_and_remat_change_no_number(name, scan, remat):
    row = dc.tokens(0, 2, 9)
    config = replace(dc.FAMILIES[name], dropout_rate=0.3)
    params = dc.params_of(config)

    def loss_and_grads(config, params):
        def loss(params):
            rngs = {"dropout": jax.random.key(3)}
            logits = models.build(config).apply(
                {"params": params}, row, row, deterministic=False, rngs=rngs
            )
            return jnp.mean(logits**2)

        return dc.compiled(jax.value_and_grad(loss))(params)

    want, want_grads = loss_and_grads(config, params)
    plain = float(jnp.mean(dc.forward(config, params, row, row) ** 2))
    assert abs(float(want) - plain) > 1e-3 * plain
    tree = scanned.to_scanned(params) if scan else params
    got, grads = loss_and_grads(replace(config, remat=remat, scan_layers=scan), tree)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6 + 2e-5 * np.abs(b).max()),
        scanned.to_unrolled(grads),
        want_grads,
    )


def test_bfloat16_activations_keep_float32_parameters_and_logits():
    config = replace(dc.FAMILIES["gemma3"], dtype="bfloat16")
    params, row = dc.params_of(dc.FAMILIES["gemma3"]), dc.tokens(0, 2, 9)
    logits = dc.forward(config, params, row)
    assert logits.dtype == jnp.float32
    exact = dc.forward(dc.FAMILIES["gemma3"], params, row)
    assert 1e-4 < float(jnp.abs(logits - exact).max()) < 0.1 * float(jnp.abs(exact).max())
    mean = lambda p: models.build(config).apply({"params": p}, row).mean()  # noqa: E731
    grads = jax.eval_shape(jax.grad(mean), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}


def test_a_loss_in_parts_has_the_same_scaled_and_capped_logits():
    from flanx.training.config import LossConfig
    from flanx.training.projected_loss import projected_loss

    config = replace(dc.FAMILIES["gemma2"], logit_scale=0.7)
    params, row, targets = dc.params_of(config), dc.tokens(0, 2, 9), dc.tokens(1, 2, 9)
    model, weights = models.build(config), jnp.ones((2, 9))

    def whole(params):
        logits = model.apply({"params": params}, row)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1).sum()

    def parted(params):
        projection = model.apply({"params": params}, row, method="before_logits")
        return projected_loss(projection, targets, weights, LossConfig(z_loss=0.0), 3)[0]

    want, want_grads = dc.compiled(jax.value_and_grad(whole))(params)
    got, grads = dc.compiled(jax.value_and_grad(parted))(params)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), grads, want_grads)


def test_attention_of_groups_and_its_gradients_equal_copied_keys():
    rng = np.random.default_rng(1)
    query = jnp.asarray(rng.normal(size=(3, 6, 5, 4)), jnp.float32)
    key, value = (jnp.asarray(rng.normal(size=(3, 2, 7, 4)), jnp.float32) for _ in range(2))
    mask = jnp.where(rng.random((3, 1, 5, 7)) < 0.7, 0.0, masks.BLOCKED).astype(jnp.float32)

    def copied(query, key, value, cap=None):
        key, value = jnp.repeat(key, 3, axis=1), jnp.repeat(value, 3, axis=1)
        logits = jnp.einsum("bhqd,bhkd->bhqk", query, key)
        logits = logits if cap is None else cap * jnp.tanh(logits / cap)
        return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(logits + mask), value)

    def both(f):
        return dc.compiled(
            jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(f(*a))), argnums=(0, 1, 2))
        )

    arrays = (query, key, value)
    for ours, wanted in (
        (lambda *a: products.attention(*a, None, mask), copied),
        (lambda *a: products.capped_attention(*a, mask, 2.0), partial(copied, cap=2.0)),
    ):
        got, want = (both(f)(*arrays) for f in (ours, wanted))
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        got, want = got[1], want[1]
        for mine, theirs in zip(got, want, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-5)

    @dc.compiled
    def row_by_row(*arrays):
        mixed, log_z = row_attention.forward(*arrays, None, mask)
        return row_attention.backward((*arrays, None, mask, mixed, log_z), jnp.cos(mixed))[:3]

    want = both(copied)(*arrays)[1]
    for mine, theirs in zip(row_by_row(*arrays), want, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    halves = ((key[:, :, :3], value[:, :, :3], mask[..., :3]),)
    halves += ((key[:, :, 3:], value[:, :, 3:], mask[..., 3:]),)
    over = dc.compiled(lambda *a: products.attention_over(a[0], halves, 2.0))(query)
    want = dc.compiled(partial(copied, cap=2.0))(*arrays)
    np.testing.assert_allclose(over, want, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        pytest.param("palm", "replicated", marks=pytest.mark.nightly),
        ("gemma3", "fully_sharded"),
    ],
)
def test_eight_devices_compute_what_one_does(name, preset):
    """Two heads of keys over four devices, and one: they are whole on each."""
    from flanx.sharding.config import MeshConfig
    from flanx.sharding.constraints import constrain_params, placed
    from flanx.sharding.mesh import make_mesh, rules_of, to_device
    from flanx.sharding.params import param_shardings

    config = replace(dc.FAMILIES[name], scan_layers=True)
    params, row = scanned.to_scanned(dc.params_of(dc.FAMILIES[name])), dc.tokens(0, 8, 9)
    network, axes_of = models.build(config), config.parameters().logical_axes

    def loss(params, row):
        logits = network.apply({"params": params}, row, row)
        return jnp.mean(jnp.square(jax.nn.log_softmax(logits)))

    want, want_grads = dc.compiled(jax.value_and_grad(loss))(params, row)
    settings = MeshConfig(data=2, model=4, parameters=preset)
    mesh, rules = make_mesh(settings), rules_of(settings)

    @dc.compiled
    def step(params, row):
        with placed(mesh, rules):
            value, grads = jax.value_and_grad(loss)(params, row)
            return value, constrain_params(grads, axes_of)

    placed_params = jax.device_put(params, param_shardings(params, mesh, axes_of, rules))
    got, grads = step(placed_params, to_device(mesh, {"row": row})["row"])
    np.testing.assert_allclose(got, want, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), grads, want_grads)
