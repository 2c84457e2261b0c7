"""Whole runs in processes of their own: told to end, started twice, out of room at an evaluation."""

import os
import signal
import threading
from pathlib import Path

import pytest

from flanx.training.config import CheckpointConfig
from flanx.training.params_io import read_tree

SEVERAL = {"train_steps": 14, "checkpoint": CheckpointConfig(period=5, keep=None)}


def params(model_dir, step):
    import jax
    import numpy as np

    tree = read_tree(Path(model_dir) / "checkpoints" / str(step) / "params", None)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def steps(model_dir):
    names = (folder.name for folder in (Path(model_dir) / "checkpoints").glob("*"))
    return sorted(int(name) for name in names if name.isdecimal())


@pytest.mark.parametrize("name", ["SIGHUP", "SIGTERM", "SIGINT"])
def test_a_run_that_is_told_to_end_saves_and_resumes(toy_config, forks, read_metrics, name):
    whole = toy_config("whole", **SEVERAL)
    assert forks.run(whole).status == 0
    config = toy_config("told", **SEVERAL)
    child = forks.run(config, ("signal", 7, name), ("slow", 7, 0.05))
    assert child.status == 75, child.err
    assert 7 <= max(steps(config.model_dir)) < 14
    assert forks.run(config).status == 0
    assert params(config.model_dir, 14) == params(whole.model_dir, 14)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


def test_a_hangup_that_nohup_ignores_stops_nothing(toy_config, forks):
    config = toy_config(**SEVERAL)
    child = forks.run(config, ("nohup",), ("signal", 7, "SIGHUP"))
    assert child.status == 0, child.err
    assert 14 in steps(config.model_dir)


def test_a_second_run_in_one_folder_is_refused_and_a_dead_one_taken_over(
    toy_config, forks, read_metrics
):
    whole = toy_config("whole", **SEVERAL)
    assert forks.run(whole).status == 0
    config = toy_config("shared", **SEVERAL)
    first = forks.start(config, ("stall", 7))
    pause = threading.Event()
    assert any(5 in steps(config.model_dir) or pause.wait(0.02) for _ in range(3_000)), first.err
    before = steps(config.model_dir)
    second = forks.run(config)
    assert second.status == 2
    (line,) = second.err.splitlines()
    assert f"process {first.pid}" in line and os.uname().nodename in line and "since" in line
    assert steps(config.model_dir) == before
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    third = forks.run(config)
    assert third.status == 0, third.err
    assert params(config.model_dir, 14) == params(whole.model_dir, 14)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)
    assert not Path(config.model_dir, "lease.json").exists()


def test_a_full_disk_at_an_evaluation_loses_no_step(toy_config, forks, toy_suite):
    settings = {**SEVERAL, "evals": (toy_suite,), "eval_period": 7, "eval_at_start": False}
    whole = toy_config("whole", **settings)
    assert forks.run(whole).status == 0
    config = toy_config("full", **settings)
    child = forks.run(config, ("full", 6, 10, 64), ("slow", 9, 0.2))
    assert child.status == 0, child.err
    assert child.out.count("cannot be written") >= 1
    assert "writing works again" in child.out
    assert params(config.model_dir, 14) == params(whole.model_dir, 14)
    answers = sorted(path.name for path in Path(whole.model_dir, "eval").iterdir())
    assert sorted(path.name for path in Path(config.model_dir, "eval").iterdir()) == answers
    for name in answers:
        if name != "index.json":
            there = Path(config.model_dir, "eval", name).read_bytes()
            assert there == Path(whole.model_dir, "eval", name).read_bytes()
