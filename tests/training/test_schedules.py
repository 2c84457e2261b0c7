"""Schedules at the steps where something happens."""

import jax
import pytest

from flanx.training.schedules import Constant, Cosine, Linear, LinearWarmup, RsqrtDecay


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), {0: 5e-4, 10**6: 5e-4}),
        (LinearWarmup(1e-3, 100), {0: 1e-5, 49: 5e-4, 99: 1e-3, 10_000: 1e-3}),
        (RsqrtDecay(1.0, 10_000), {0: 0.01, 9_999: 0.01, 40_000: 0.005}),
        (RsqrtDecay(1.0, 0), {0: 1.0, 4: 0.5}),
        (Linear(1e-3, 100), {0: 1e-3, 50: 5e-4, 100: 0.0, 200: 0.0}),
        (Linear(1e-3, 110, 10, final=1e-4), {0: 1e-4, 10: 1e-3, 60: 5.5e-4, 500: 1e-4}),
        (Cosine(1e-3, 100), {0: 1e-3, 50: 5e-4, 100: 0.0}),
        (Cosine(1e-3, 110, 10, final=2e-4), {4: 5e-4, 10: 1e-3, 60: 6e-4, 999: 2e-4}),
    ],
)
def test_values(schedule, expected):
    rate = schedule.build()
    for step, value in expected.items():
        assert float(rate(step)) == pytest.approx(value, rel=1e-5, abs=1e-9)
        assert float(jax.jit(rate)(step)) == pytest.approx(value, rel=1e-5, abs=1e-9)
