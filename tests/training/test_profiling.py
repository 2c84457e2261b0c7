"""Traces: that their steps are in them, that they change nothing, and that bad requests are refused."""

import dataclasses
import gzip
import json
from pathlib import Path

import jax
import pytest

from flanx.errors import UserError
from flanx.training import limits, metrics_file
from flanx.training.clock import Clock
from flanx.training.loop import train
from flanx.training.profiling import Profile, steps_to_profile

ONE = jax.devices()[:1]


def traces(model_dir):
    """Numbers of the steps in each trace file under MODEL_DIR/profile."""
    found = []
    for file in sorted(Path(model_dir, "profile", "plugins", "profile").glob("*/*.trace.json.gz")):
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        steps = {int(event["args"]["step_num"]) for event in events if event.get("name") == "train"}
        found.append(sorted(steps))
        assert file.with_name(file.name.replace(".trace.json.gz", ".xplane.pb")).stat().st_size
    return found


def test_a_run_with_a_trace_is_the_run_without(toy_config, read_metrics, capsys):
    plain, traced = (toy_config(name, train_steps=4) for name in ("plain", "traced"))
    traced = dataclasses.replace(traced, profile_steps=(3, 4))
    train(plain, devices=ONE)
    capsys.readouterr()
    train(traced, devices=ONE)
    assert traces(traced.model_dir) == [[3, 4]]
    assert len(list(Path(traced.model_dir).glob("profile/plugins/profile/*/*.trace.json.gz"))) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "profile" in line]
    folder = f"{traced.model_dir}/profile"
    assert len(said) == 1
    assert said[0].startswith(f"profile of steps 3 to 4: {folder}; ")
    assert said[0].endswith(f"xprof --logdir={folder}")
    assert read_metrics(plain.model_dir) == read_metrics(traced.model_dir)
    for line in metrics_file.read(traced.model_dir):
        parts = [
            line["values"][f"{name}_share"] for name in ("data_wait", "dispatch", "device_wait")
        ]
        assert sum(parts) == pytest.approx(1)
        assert "mfu" not in line["values"]


def test_a_trace_that_the_end_of_the_run_cuts_is_written(tmp_path):
    said = []
    profile = Profile(str(tmp_path), (2, 9), clock=Clock(), say=said.append)
    ready = jax.numpy.zeros(())
    for number in (1, 2, 3):
        profile.before(number, ready)
        with profile.step(number):
            pass
        profile.after(number, ready)
    profile.close(3)
    profile.close(3)
    assert traces(tmp_path) == [[2, 3]]
    assert len(said) == 1 and "steps 2 to 3" in said[0]
    # A run that goes on from step 2 finds the first step past.
    resumed = Profile(str(tmp_path), (2, 9), clock=Clock(), say=said.append)
    for number in (3, 9):
        resumed.before(number, ready)
        resumed.after(number, ready)
    assert traces(tmp_path) == [[2, 3]]


@pytest.mark.parametrize(
    ("value", "steps"),
    [(None, None), (1, (10, 10)), (4, (10, 13)), ((3, 5), (3, 5)), ([7, 7], (7, 7))],
)
def test_what_can_be_asked_for(value, steps):
    assert steps_to_profile(value) == steps


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "10-13", (5, 3), (0, 3), (1, 2, 3), (1, None)])
def test_what_cannot_is_refused_in_one_line(value):
    with pytest.raises(UserError, match="PROFILE_STEPS is .*: give a number of steps") as error:
        steps_to_profile(value)
    assert "\n" not in str(error.value)


def test_a_trace_that_begins_after_the_run_is_refused(toy_config):
    with pytest.raises(UserError, match="begins with step 10, and TRAIN_STEPS is 9"):
        limits.check(toy_config(profile_steps=2))
