"""The training step against T5X's numbers, and its laws: microbatches, skipped updates, dropout keys."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx import models
from flanx.models.t5.config import T5Config
from flanx.sharding.trees import path_names
from flanx.training import metrics
from flanx.training.config import LossConfig
from flanx.training.optimizer import Adafactor
from flanx.training.schedules import Constant
from flanx.training.state import new_state
from flanx.training.step import batch_metrics, make_train_step, metric_shapes

T5X_TINY = T5Config(
    emb_dim=64,
    num_heads=4,
    head_dim=16,
    num_encoder_layers=2,
    num_decoder_layers=2,
    mlp_dim=128,
    vocab_size=1024,
    dropout_rate=0.0,
    dtype="float32",
)
SMALL = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    vocab_size=48,
    dropout_rate=0.0,
    dtype="float32",
)
RATE = Constant(0.01).build()


def nested(npz, prefix):
    tree = {}
    for name in npz.files:
        if name.startswith(prefix):
            *folders, leaf = name.removeprefix(prefix).split("/")
            place = tree
            for folder in folders:
                place = place.setdefault(folder, {})
            place[leaf] = jnp.asarray(npz[name])
    return tree


def flat(tree):
    return {"/".join(path_names(p)): np.asarray(x) for p, x in jax.tree.leaves_with_path(tree)}


@pytest.fixture(scope="module")
def t5x(shared_oracles):
    folder = shared_oracles / "t5x_tiny"
    names = ("params", "expected", "train")
    return {name: np.load(folder / f"{name}.npz") for name in names}


def small_batch(rows=8, seed=0, tasks=3):
    """Rows with one or two segments and unequal numbers of real tokens."""
    rng = np.random.default_rng(seed)
    enc, dec = np.zeros((rows, 10), np.int32), np.zeros((rows, 8), np.int32)
    for r in range(rows):
        cut, end = rng.integers(1, 5), rng.integers(5, 9)
        enc[r, :cut], enc[r, cut : end + 1] = 1, 2
        dec[r, : cut - 0], dec[r, cut : end - (r % 3)] = 1, 2
    targets = rng.integers(2, 48, dec.shape).astype(np.int32) * (dec > 0)
    starts = np.diff(dec, axis=1, prepend=0) != 0
    shifted = np.where(starts, 0, np.roll(targets, 1, axis=1)) * (dec > 0)
    batch = {
        "encoder_input_tokens": rng.integers(2, 48, enc.shape).astype(np.int32) * (enc > 0),
        "decoder_target_tokens": targets,
        "decoder_input_tokens": shifted,
        "decoder_loss_weights": (dec > 0).astype(np.float32),
        "encoder_segment_ids": enc,
        "decoder_segment_ids": dec,
        "decoder_task_ids": np.broadcast_to(np.arange(rows)[:, None] % tasks, dec.shape).astype(
            np.int32
        ),
    }
    return {name: jnp.asarray(value) for name, value in batch.items()}


def build(config=SMALL, *, seed=0, loss=None, **options):
    model = models.build(config)
    optimizer = Adafactor().build(RATE)
    state = new_state(models.init_params(model, jax.random.key(seed)), optimizer)
    loss = loss or LossConfig()
    step = make_train_step(model, optimizer, RATE, loss, num_tasks=3, **options)
    return model, state, jax.jit(step)


KEY = jax.random.key(7)


def test_three_steps_of_t5x(t5x):
    """Loss of each step and the whole state after the first, as T5X's Trainer computed them."""
    model = models.build(T5X_TINY)
    optimizer = Adafactor().build(RATE)
    state = new_state(nested(t5x["params"], ""), optimizer)
    # T5X summed over tokens here: a normalising factor of 1.
    loss = LossConfig(z_loss=1e-4, normalizing_factor=1.0)
    step = jax.jit(make_train_step(model, optimizer, RATE, loss, num_tasks=1))
    batch = nested(t5x["expected"], "packed/batch/")
    expected = t5x["train"]
    with jax.default_matmul_precision("highest"):
        for number in range(3):
            state, got = step(state, batch, KEY)
            np.testing.assert_allclose(got["loss"], expected[f"loss{number}"], rtol=2e-5)
            if number == 0:
                first = state
    params, slots = flat(first.params), flat(first.opt_state.v)
    for name, value in flat(nested(expected, "step1/target/")).items():
        np.testing.assert_allclose(params[name], value, atol=2e-5, err_msg=name)
    for name, value in flat(nested(expected, "step1/state/param_states/")).items():
        path, slot = name.rsplit("/", 1)
        if slot == "v":
            np.testing.assert_allclose(
                slots[path], value, rtol=5e-3, atol=1e-6 * value.max(), err_msg=name
            )


@pytest.mark.parametrize("kind", ["padded", "packed"])
def test_metrics_of_t5x(t5x, kind):
    expected = t5x["expected"]
    model, loss = models.build(T5X_TINY), LossConfig(z_loss=1e-4)
    params, batch = nested(t5x["params"], ""), nested(expected, f"{kind}/batch/")
    with jax.default_matmul_precision("highest"):
        _, got = jax.jit(lambda p, b: batch_metrics(model, p, b, loss, num_tasks=1))(params, batch)
    np.testing.assert_allclose(got["loss"], expected[f"{kind}/loss"], rtol=1e-5)
    mean = {k: float(got[k] / got["weights"]) for k in ("loss", "z_loss", "correct")}
    at = f"{kind}/metric/"
    assert mean["loss"] == pytest.approx(
        float(expected[at + "loss_per_nonpadding_target_token"]), rel=1e-5
    )
    assert mean["correct"] == pytest.approx(float(expected[at + "accuracy"]), abs=1e-6)
    assert float(got["z_loss"]) == pytest.approx(float(expected[at + "z_loss"]), rel=1e-4)


@pytest.mark.parametrize(
    ("factor", "counts"),
    [(None, (2, 8)), pytest.param(100.0, (4,), marks=pytest.mark.nightly)],
)
def test_microbatches_are_the_full_batch(factor, counts):
    batch = small_batch()
    loss = LossConfig(label_smoothing=0.1, normalizing_factor=factor)
    _, state, whole = build(loss=loss)
    expected, summed = whole(state, batch, KEY)
    for parts in counts:
        _, _, step = build(loss=loss, microbatches=parts)
        got, metrics_got = step(state, batch, KEY)
        for name, value in summed.items():
            np.testing.assert_allclose(metrics_got[name], value, rtol=1e-5, err_msg=name)
        for name, value in flat(expected.params).items():
            np.testing.assert_allclose(
                flat(got.params)[name], value, rtol=1e-4, atol=1e-6, err_msg=name
            )


def test_metrics_count_what_is_there():
    batch = small_batch()
    _, state, step = build()
    state, one = step(state, batch, KEY)
    _, two = step(state, batch, KEY)
    weights = np.asarray(batch["decoder_loss_weights"])
    assert int(one["target_tokens"]) == weights.sum() == float(one["weights"])
    assert int(one["input_tokens"]) == (np.asarray(batch["encoder_input_tokens"]) > 0).sum()
    assert int(one["examples"]) == 16
    shapes = {name: (x.shape, x.dtype) for name, x in metric_shapes(3).items()}
    assert shapes == {name: (x.shape, x.dtype) for name, x in one.items()}
    for task in range(3):
        assert int(one["task_tokens"][task]) == weights[np.arange(8) % 3 == task].sum()
    np.testing.assert_allclose(np.sum(one["task_loss"]), one["loss"], rtol=1e-5)

    values = metrics.summarise(metrics.add(one, two), ["a", "b", "c"])
    assert values["loss"] == pytest.approx(float(one["loss"] + two["loss"]) / (2 * weights.sum()))
    assert set(values["task_loss"]) == {"a", "b", "c"}
    assert values["fill_targets"] == pytest.approx(weights.mean())
    assert values["param_norm"] == pytest.approx(float(two["param_norm"]))
    assert values["grad_norm"] == pytest.approx(float(one["grad_norm"] + two["grad_norm"]) / 2)
    assert metrics.counts(one) == (int(one["input_tokens"]) + int(weights.sum()), 16)


def test_a_gradient_that_is_not_finite_is_skipped_and_counted():
    batch = small_batch()
    _, state, step = build()
    broken = {**batch, "decoder_loss_weights": batch["decoder_loss_weights"].at[0, 0].set(jnp.inf)}
    after, got = step(state, broken, KEY)
    for name, value in flat(state.params).items():
        np.testing.assert_array_equal(flat(after.params)[name], value)
    np.testing.assert_array_equal(flat(after.opt_state.v)["decoder/decoder_norm/scale"], 0.0)
    assert (int(after.step), int(after.opt_state.count), int(got["skipped"])) == (1, 1, 1)
    assert float(got["loss"]) == 0.0
    _, fine = step(after, batch, KEY)
    values = metrics.summarise(metrics.add(got, fine), ["a", "b", "c"])
    assert values["skipped_updates"] == 1
    assert np.isfinite(values["loss"])
    assert np.isfinite(values["grad_norm"])


def test_gradient_clip_bounds_the_norm_and_reports_the_unclipped():
    batch = small_batch()
    model, state, step = build()
    tiny = make_train_step(
        model, Adafactor().build(RATE), RATE, LossConfig(), num_tasks=3, gradient_clip=1e-3
    )
    _, plain = step(state, batch, KEY)
    after, clipped = jax.jit(tiny)(state, batch, KEY)
    assert float(clipped["grad_norm"]) == pytest.approx(float(plain["grad_norm"]), rel=1e-6)
    second_moments = sum(v.sum() for v in flat(after.opt_state.v).values())
    assert second_moments == pytest.approx(1e-6, rel=1e-3)


def test_dropout_follows_the_step_and_the_seed():
    batch = small_batch()
    config = dataclasses.replace(SMALL, dropout_rate=0.5)
    _, state, step = build(config)
    same = [step(state, batch, KEY)[1]["loss"] for _ in range(2)]
    other_step = step(state._replace(step=state.step + 1), batch, KEY)[1]["loss"]
    other_seed = step(state, batch, jax.random.key(8))[1]["loss"]
    assert same[0] == same[1]
    assert len({float(same[0]), float(other_step), float(other_seed)}) == 3
    rbg = step(state, batch, jax.random.key(7, impl="rbg"))[1]["loss"]
    assert np.isfinite(rbg)
