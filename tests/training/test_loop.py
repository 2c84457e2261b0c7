"""Whole runs: what they leave behind, and that a run that was stopped is the run that never was."""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from flanx.errors import UserError
from flanx.sharding.config import MeshConfig
from flanx.training.config import CheckpointConfig
from flanx.training.loop import train
from flanx.training.params_io import read_tree
from flanx.training.writers import AllWriters

ONE = jax.devices()[:1]


def bytes_of(model_dir, step):
    """Every array of a checkpoint, as bytes."""
    found = {}
    for item in ("params", "train"):
        folder = Path(model_dir) / "checkpoints" / str(step) / item
        for path, leaf in jax.tree.leaves_with_path(read_tree(folder, None)):
            found[item + jax.tree_util.keystr(path)] = np.asarray(leaf).tobytes()
    return found


def test_a_run_leaves_everything(toy_config, read_metrics, capsys):
    config = toy_config()
    result = train(config, config_text="# gin\n", devices=ONE)
    assert (result.step, result.preempted) == (9, False)
    folder = Path(config.model_dir)
    names = {path.name for path in folder.iterdir()}
    assert {"config.gin", "model-info.txt", "run.json", "metrics.jsonl", "checkpoints"} <= names
    assert any("tfevents" in name for name in names)
    lines = read_metrics(config.model_dir)
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    values = lines[0]["values"]
    assert {"loss", "accuracy", "z_loss", "grad_norm", "param_norm", "learning_rate"} <= set(values)
    assert set(values["task_loss"]) <= {"toy.a", "toy.b", "toy.c"}
    assert 0 < values["fill_targets"] <= 1
    timed = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["values"]
    assert {"tokens_per_s", "examples_per_s", "steps_per_s", "data_wait_share"} <= set(timed)
    parameters = f"parameters: {config.model.num_parameters():,}"
    assert parameters in (folder / "model-info.txt").read_text()
    assert sorted(int(p.name) for p in (folder / "checkpoints").iterdir()) == [4, 8, 9]
    out = capsys.readouterr().out
    assert "starting from random parameters" in out
    assert "step 1 done" in out


@pytest.mark.parametrize("stops", [(1,), (4,), (7,), (2, 5)])
def test_resume_is_bit_exact(toy_config, read_metrics, stops):
    """Blocks of 24 examples pack into 3 or so batches, so that stops fall inside blocks as well as between them."""
    whole = toy_config("whole")
    train(whole, devices=ONE)
    parts = toy_config("parts")
    for stop in stops:
        assert train(dataclasses.replace(parts, train_steps=stop), devices=ONE).step == stop
    assert train(parts, devices=ONE).step == 9
    assert bytes_of(parts.model_dir, 9) == bytes_of(whole.model_dir, 9)
    assert read_metrics(parts.model_dir) == read_metrics(whole.model_dir)


def test_a_finished_run_has_nothing_to_do(toy_config, capsys):
    config = toy_config(train_steps=2)
    train(config, devices=ONE)
    before = (Path(config.model_dir) / "metrics.jsonl").read_text()
    assert train(config, devices=ONE).step == 2
    assert "nothing to train" in capsys.readouterr().out
    assert (Path(config.model_dir) / "metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    "layout",
    [
        MeshConfig(replica=2, data=2, model=2),
        pytest.param(
            MeshConfig(data=4, model=2, parameters="fully_sharded"), marks=pytest.mark.nightly
        ),
    ],
)
def test_eight_devices_are_one_and_checkpoints_move_between_them(toy_config, read_metrics, layout):
    one, eight = toy_config("one", batch_size=16), toy_config("eight", batch_size=16)
    eight = dataclasses.replace(eight, mesh=layout)
    train(one, devices=ONE)
    train(dataclasses.replace(eight, train_steps=5))
    moved = dataclasses.replace(eight, mesh=MeshConfig())
    train(moved, devices=ONE)
    for a, b in zip(read_metrics(one.model_dir), read_metrics(eight.model_dir), strict=True):
        assert a["step"] == b["step"]
        assert a["values"]["loss"] == pytest.approx(b["values"]["loss"], rel=1e-4)
        assert a["values"]["grad_norm"] == pytest.approx(b["values"]["grad_norm"], rel=1e-3)


def test_evaluation_at_the_ends_and_in_between(toy_config, toy_suite, read_metrics):
    config = toy_config(evals=(toy_suite,), eval_period=4, train_steps=6)
    result = train(config, devices=ONE)
    lines = [line for line in read_metrics(config.model_dir) if line["split"] == "eval"]
    assert [line["step"] for line in lines] == [0, 4, 6]
    assert result.metrics == lines[-1]["values"]
    assert "held_in/toy.d/exact_match" in result.metrics
    folder = Path(config.model_dir)
    assert (folder / "eval" / "toy.a-6.jsonl").is_file()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["step"] == 6
    assert (folder / "curves.png").is_file()
    before = (folder / "metrics.jsonl").read_text()
    again = train(config, devices=ONE)
    assert again.metrics == result.metrics
    assert (folder / "metrics.jsonl").read_text() == before


def test_a_signal_during_evaluation_repeats_it(toy_config, toy_suite, read_metrics, monkeypatch):
    config = toy_config(evals=(toy_suite,), eval_period=4, eval_at_start=False, train_steps=6)
    whole = dataclasses.replace(config, model_dir=config.model_dir + "-whole")
    train(whole, devices=ONE)
    calls = []

    def interrupted(self, done, total, suite):
        if not calls:
            os.kill(os.getpid(), signal.SIGTERM)
        calls.append(done)

    monkeypatch.setattr(AllWriters, "evaluating", interrupted)
    stopped = train(config, devices=ONE)
    assert (stopped.step, stopped.preempted) == (4, True)
    monkeypatch.undo()
    assert train(config, devices=ONE).step == 6
    assert bytes_of(config.model_dir, 6) == bytes_of(whole.model_dir, 6)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


def test_the_best_checkpoint_is_kept(toy_config, toy_suite, read_metrics):
    keep = CheckpointConfig(period=100, keep=1, best_metric="held_in/loss", best_mode="min")
    config = toy_config(
        evals=(toy_suite,), eval_period=2, eval_at_start=False, train_steps=6, checkpoint=keep
    )
    train(config, devices=ONE)
    losses = {
        line["step"]: line["values"]["held_in/loss"]
        for line in read_metrics(config.model_dir)
        if line["split"] == "eval"
    }
    best = min(losses, key=losses.__getitem__)
    found = {int(p.name) for p in (Path(config.model_dir) / "checkpoints").iterdir()}
    assert found == {best, 6}


def test_initial_checkpoint_and_the_run_that_hides_it(toy_config, capsys):
    base = toy_config("base", train_steps=3)
    train(base, devices=ONE)
    tuned = toy_config("tuned", initial_checkpoint_path=base.model_dir, train_steps=2)
    assert train(tuned, devices=ONE).step == 2
    scanned = dataclasses.replace(
        tuned,
        model=dataclasses.replace(tuned.model, scan_layers=True),
        model_dir=tuned.model_dir + "-scanned",
    )
    assert train(scanned, devices=ONE).step == 2
    capsys.readouterr()
    train(dataclasses.replace(tuned, train_steps=3), devices=ONE)
    out = capsys.readouterr().out
    assert f"going on from step 2 of {tuned.model_dir}" in out
    assert f"INITIAL_CHECKPOINT_PATH = {base.model_dir} is not read again" in out


def test_another_run_in_model_dir_is_refused(toy_config):
    config = toy_config(train_steps=1)
    train(config, devices=ONE)
    wider = dataclasses.replace(config, model=dataclasses.replace(config.model, emb_dim=24))
    with pytest.raises(UserError, match=r"another model \(emb_dim 16 there and 24 here\)"):
        train(wider, devices=ONE)
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, mixture="niv2"))
    with pytest.raises(UserError, match="holds a run on mixture 'toy', this one is on 'niv2'"):
        train(other, devices=ONE)
    with pytest.raises(UserError, match="seed 0, this one has 5"):
        train(dataclasses.replace(config, seed=5), devices=ONE)
    dropped = dataclasses.replace(config.model, dropout_rate=0.0)
    assert train(dataclasses.replace(config, model=dropped, train_steps=2), devices=ONE).step == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 5}, "BATCH_SIZE = 5 does not split into 1 microbatch.* 8 device"),
        ({"batch_size": 8, "microbatches": 3}, "24 would"),
        ({"mesh": MeshConfig(model=3)}, "is 6 devices, and there are 8"),
        ({"log_period": 0}, "log_period is 0"),
        ({"checkpoint": CheckpointConfig(period=0)}, "CheckpointConfig.period is 0"),
        ({"checkpoint": CheckpointConfig(best_metric="held_in/loss")}, "no evaluation to measure"),
        ({"mesh": MeshConfig(replica=0)}, "MeshConfig.replica is 0: give 1 or more"),
        ({"gradient_clip": 0.0}, "gradient_clip is 0.0: give more than 0, or None"),
        ({"seed": -1}, "seed is -1: give 0 to"),
        ({"prng": "threefry"}, "prng is 'threefry': one of threefry2x32, rbg"),
        ({"log_period": 10**9}, "log_period is 1000000000: give 13421772 or less"),
    ],
)
def test_numbers_that_do_not_fit(toy_config, changes, message):
    with pytest.raises(UserError, match=message):
        train(toy_config(**changes))


def test_a_bucket_is_no_model_dir(toy_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="MODEL_DIR gs://b/x: .*mount the bucket"):
        train(dataclasses.replace(toy_config(), model_dir="gs://b/x"), devices=ONE)
    assert not Path("gs:").exists()


def test_a_vocabulary_beyond_the_model_is_refused(toy_config):
    config = toy_config()
    small = dataclasses.replace(config.model, vocab_size=200)
    with pytest.raises(UserError, match="'bytes' has 259 ids, and the model's vocab_size is 200"):
        train(dataclasses.replace(config, model=small), devices=ONE)


def test_no_tensorflow_and_sigterm(toy_config, read_metrics, tmp_path):
    """A signal ends the run at a step with a checkpoint; the same command then ends as if nothing had been."""
    whole = toy_config("whole", train_steps=60)
    train(whole, devices=ONE)
    config = toy_config("killed", train_steps=60)
    arguments = [sys.executable, "-c", DRIVER, pickled(config, tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True) as child:
        for line in child.stdout:
            if line.startswith("step 1 done"):
                child.send_signal(signal.SIGTERM)
        errors = child.stderr.read()
    assert child.returncode == 75, errors
    assert errors == ""
    stopped = max(int(p.name) for p in (Path(config.model_dir) / "checkpoints").iterdir())
    assert stopped < 60
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"going on from step {stopped}" in done.stdout
    assert bytes_of(config.model_dir, 60) == bytes_of(whole.model_dir, 60)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


def test_kill_at_any_instant_changes_nothing(toy_config, read_metrics, tmp_path):
    """Killed as soon as it touches the checkpoint of some step, begun, half written or done; never told."""
    whole = toy_config("whole", train_steps=40)
    train(whole, devices=ONE)
    config = toy_config("killed", train_steps=40, checkpoint=CheckpointConfig(period=2, keep=3))
    arguments = [sys.executable, "-c", DRIVER, pickled(config, tmp_path)]
    folder = Path(config.model_dir) / "checkpoints"
    rng = np.random.default_rng(0)
    for aim in (4, 14, 28):
        with (
            (tmp_path / "errors").open("w") as errors,
            subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=errors) as child,
        ):
            while child.poll() is None:
                names = os.listdir(folder) if folder.is_dir() else []
                if any(re.match(rf"{aim}\b", name) for name in names):
                    sum(range(int(rng.integers(0, 300_000))))
                    child.kill()
                    break
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.002)  # leaves the child its core
        assert child.returncode == -signal.SIGKILL, (tmp_path / "errors").read_text()
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "going on from step" in done.stdout
    assert bytes_of(config.model_dir, 40) == bytes_of(whole.model_dir, 40)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


DRIVER = """
import pickle, sys
from flanx.training.loop import train
if __name__ == "__main__":
    with open(sys.argv[1], "rb") as handle:
        config = pickle.load(handle)
    import jax
    result = train(config, devices=jax.devices()[:1])
    assert "tensorflow" not in sys.modules
    sys.exit(75 if result.preempted else 0)
"""


def pickled(config, folder):
    import pickle

    path = folder / f"{Path(config.model_dir).name}.pickle"
    path.write_bytes(pickle.dumps(config))
    return str(path)
