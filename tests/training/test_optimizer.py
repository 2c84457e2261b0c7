"""Adafactor against T5X's own numbers, a slow numpy version, and itself on stacked layers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flanx.training.optimizer import Adafactor, AdamW
from flanx.training.schedules import Constant

RATE = Constant(0.01).build()


def slow_adafactor(params, grads_by_step, rate=0.01):
    """T5X's `Adafactor.apply_param_gradient`, one float64 array at a time."""
    params = {k: v.astype(np.float64) for k, v in params.items()}
    slots = {}
    for step, grads in enumerate(grads_by_step):
        decay = 1.0 - (step + 1.0) ** -0.8
        for name, p in params.items():
            g = grads[name].astype(np.float64)
            sq = g * g + 1e-30
            if p.ndim == 2 and min(p.shape) >= 128:
                row, col = slots.get(name, (0.0, 0.0))
                row = decay * row + (1 - decay) * sq.mean(axis=1)
                col = decay * col + (1 - decay) * sq.mean(axis=0)
                slots[name] = (row, col)
                y = g * ((row / row.mean()) ** -0.5)[:, None] * (col**-0.5)[None, :]
            else:
                slots[name] = decay * slots.get(name, 0.0) + (1 - decay) * sq
                y = g * slots[name] ** -0.5
            y /= max(1.0, np.sqrt((y * y).mean()))
            params[name] = p - rate * max(np.sqrt((p * p).mean()), 1e-3) * y
    return params, slots


def random_case(shapes, steps=3, seed=0):
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=s, scale=0.3).astype(np.float32) for k, s in shapes.items()}
    scales = np.exp(rng.normal(size=steps))
    grads = [
        {k: (c * rng.normal(size=s)).astype(np.float32) for k, s in shapes.items()} for c in scales
    ]
    return params, grads


def run(tx, params, grads_by_step):
    params = jax.tree.map(jnp.asarray, params)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for grads in grads_by_step:
        updates, state = update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def test_equals_the_slow_version_factored_and_not():
    shapes = {"wide": (128, 300), "tall": (257, 130), "small": (64, 300), "scale": (96,)}
    params, grads = random_case(shapes)
    expected, slots = slow_adafactor(params, grads)
    got, state = run(Adafactor().build(RATE), params, grads)
    for name in shapes:
        np.testing.assert_allclose(got[name], expected[name], rtol=2e-5, atol=1e-6)
    assert state.v["wide"].shape == (1,)
    assert state.v["small"].shape == (64, 300)
    assert int(state.count) == 3
    # The larger axis is averaged away in v_row, as in T5X.
    np.testing.assert_allclose(state.v_row["wide"], slots["wide"][0], rtol=1e-5)
    np.testing.assert_allclose(state.v_col["wide"], slots["wide"][1], rtol=1e-5)
    np.testing.assert_allclose(state.v["scale"], slots["scale"], rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_stacked_layers_are_treated_one_by_one(axis):
    shapes = {f"kernel_{i}": (130, 140) for i in range(3)} | {f"scale_{i}": (20,) for i in range(3)}
    params, grads = random_case(shapes)

    def stack(tree):
        return {
            name: np.stack([tree[f"{name}_{i}"] for i in range(3)], axis=axis)
            for name in ("kernel", "scale")
        }

    alone, _ = run(Adafactor().build(RATE), params, grads)
    tx = Adafactor().build(RATE, stack_axis=lambda path: axis)
    together, state = run(tx, stack(params), [stack(g) for g in grads])
    for name, expected in stack({k: np.asarray(v) for k, v in alone.items()}).items():
        np.testing.assert_allclose(together[name], expected, rtol=2e-6, atol=1e-7)
    assert state.v_row["kernel"].shape == ((3, 130) if axis == 0 else (130, 3))
    # Without the axis, three layers of different scale would share one parameter scale.
    mixed, _ = run(Adafactor().build(RATE), stack(params), [stack(g) for g in grads])
    assert np.abs(np.asarray(mixed["scale"]) - together["scale"]).max() > 1e-4


def test_weight_decay_momentum_and_options():
    params, grads = random_case({"w": (4, 5)}, steps=1)
    plain, _ = run(Adafactor().build(RATE), params, grads)
    decayed, _ = run(Adafactor(weight_decay=0.1).build(RATE), params, grads)
    np.testing.assert_allclose(decayed["w"], plain["w"] - 0.01 * 0.1 * params["w"], rtol=1e-6)
    slower, state = run(Adafactor(beta1=0.9).build(RATE), params, grads)
    np.testing.assert_allclose(
        slower["w"] - params["w"], 0.1 * (plain["w"] - params["w"]), rtol=1e-4, atol=1e-7
    )
    assert state.m["w"].shape == (4, 5)
    sign, _ = run(Adafactor(multiply_by_parameter_scale=False).build(RATE), params, grads)
    np.testing.assert_allclose(sign["w"], params["w"] - 0.01 * np.sign(grads[0]["w"]), rtol=1e-5)


def test_adamw_is_optax():
    params, grads = random_case({"w": (4, 5)})
    got, _ = run(AdamW(weight_decay=0.1).build(RATE), params, grads)
    expected, _ = run(optax.adamw(0.01, weight_decay=0.1), params, grads)
    np.testing.assert_array_equal(got["w"], expected["w"])
