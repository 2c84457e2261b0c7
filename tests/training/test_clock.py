"""What the seconds between log lines go to, on a clock that is told the time; and MFU of chips known and not."""

import json
from types import SimpleNamespace

import jax
import pytest

from flanx.hardware.chips import CHIPS
from flanx.training import clock as clocks
from flanx.training.clock import Clock
from flanx.training.mfu import steps_at_peak

SUMS = {"input_tokens": 300, "target_tokens": 100, "examples": 40, "steps": 4}


@pytest.fixture
def at(monkeypatch):
    """`at.now` is the time."""
    time = SimpleNamespace(now=100.0)
    monkeypatch.setattr(clocks.time, "perf_counter", lambda: time.now)
    return time


def test_every_second_is_one_of_three(at):
    """20 s of which 4 are a pause; one of the pause's five waited for devices, and is theirs."""
    clock = Clock(steps_at_peak=0.5)
    for _ in range(4):
        clock.step()
    with clock.waiting():
        at.now += 2
    with clock.on_devices():
        at.now += 7
    at.now += 6
    with clock.paused():
        at.now += 4
        with clock.on_devices():
            at.now += 1
    rates = clock.rates(SUMS)
    assert rates["steps_per_s"] == 4 / 16
    assert rates["tokens_per_s"] == 100 / 4
    assert [rates[f"{name}_s"] for name in ("data_wait", "device_wait", "dispatch")] == [2, 8, 6]
    assert [rates[f"{name}_share"] for name in ("data_wait", "device_wait", "dispatch")] == [
        2 / 16,
        8 / 16,
        6 / 16,
    ]
    assert rates["mfu"] == 0.5
    assert set(rates) == set(clocks.TIMED)
    clock.restart()
    assert clock.rates(SUMS) == {}


def test_mfu_by_hand(toy_config):
    """Two v4 chips: 2 x 275e12 FLOP/s over the FLOPs of a step; nothing where the chip is not known."""
    config = toy_config()
    flops = config.model.flops_per_step(4, {"inputs": 24, "targets": 16})
    chip = SimpleNamespace(device_kind=CHIPS["v4"].device_kinds[0])
    assert steps_at_peak(config, [chip, chip]) == pytest.approx(2 * 275e12 / flops)
    assert steps_at_peak(config, jax.devices()) is None


def test_json_has_no_mfu_without_a_chip(at):
    clock = Clock(None)
    clock.step()
    at.now += 1
    assert "mfu" not in json.loads(json.dumps(clock.rates(SUMS)))
