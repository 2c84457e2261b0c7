"""Saving and restoring: what is kept, what damage is noticed, and what is refused."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flanx.errors import UserError
from flanx.training.checkpoint import Checkpoints
from flanx.training.config import CheckpointConfig
from flanx.training.initial import open_initial, restore_params
from flanx.training.optimizer import Adafactor, AdamW
from flanx.training.params_io import check_vocabulary, export_params, find_params, read_facts
from flanx.training.schedules import Constant
from flanx.training.state import new_state

RATE = Constant().build()
FACTS = {"vocabulary": {"spec": "v.model", "fingerprint": "abc+100", "size": 50}}


def make_state(seed=0, optimizer=None, width=6):
    rng = np.random.default_rng(seed)
    params = {
        "encoder": {"layers_0": {"kernel": jnp.asarray(rng.normal(size=(130, 140)), jnp.float32)}},
        "scale": jnp.asarray(rng.normal(size=width), jnp.float32),
    }
    return new_state(params, optimizer or (Adafactor().build(RATE)))


def at_step(state, step):
    return jax.tree.map(lambda x: x + step, state)._replace(step=jnp.int32(step))


SUMS = {"loss": jnp.float32(1.5), "task_loss": jnp.arange(3.0)}


def like(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


@pytest.fixture
def opened(tmp_path):
    """`opened(config) -> (checkpoints, what it warned of)`."""

    def open_(config=None, folder=tmp_path / "run"):
        told = []
        return Checkpoints(folder, config or CheckpointConfig(keep=None), FACTS, told.append), told

    return open_


def save(checkpoints, state, step, evaluation=None):
    checkpoints.save(at_step(state, step), SUMS, {"block": step, "row": 1}, evaluation, step=step)


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("optimizer", [Adafactor(), Adafactor(beta1=0.9), AdamW()])
def test_round_trip_to_the_byte(opened, optimizer):
    state = make_state(optimizer=optimizer.build(RATE))
    checkpoints, told = opened()
    save(checkpoints, state, 3)
    checkpoints.finish(needed=3)
    again, _ = opened()
    restored = again.restore_newest(like(state), like(SUMS))
    assert_same(restored.state, at_step(state, 3))
    assert jax.tree.structure(restored.state) == jax.tree.structure(state)
    assert_same(restored.sums, SUMS)
    assert (restored.step, restored.loader, told) == (3, {"block": 3, "row": 1}, [])


def test_nothing_to_restore(opened):
    checkpoints, _ = opened()
    assert checkpoints.restore_newest(like(make_state()), like(SUMS)) is None


@pytest.mark.parametrize(("mode", "kept"), [("max", [2, 5, 6]), ("min", [4, 5, 6])])
def test_keeps_the_newest_and_the_best(opened, mode, kept):
    config = CheckpointConfig(keep=2, keep_best=1, best_metric="held_in/score", best_mode=mode)
    checkpoints, _ = opened(config)
    for step, score in enumerate([50.0, 90.0, 40.0, 10.0, 60.0, None], start=1):
        evaluation = None if score is None else {"held_in/score": score}
        save(checkpoints, make_state(), step, evaluation)
    checkpoints.finish(needed=6)
    assert sorted(int(p.name) for p in checkpoints.folder.iterdir()) == kept


def test_a_checkpoint_saved_before_its_evaluation_can_be_the_best(opened):
    config = CheckpointConfig(keep=1, best_metric="held_in/score")
    checkpoints, _ = opened(config)
    save(checkpoints, make_state(), 1, {"held_in/score": 50.0})
    save(checkpoints, make_state(), 2)
    checkpoints.finish(needed=2)
    again, _ = opened(config)
    again.add_evaluation(0, {"held_in/score": 99.0})  # never saved
    again.add_evaluation(2, {"held_in/score": 90.0})
    again.add_evaluation(2, {"held_in/score": 1.0})  # has one
    save(again, make_state(), 3, {"held_in/score": 70.0})
    again.finish(needed=3)
    assert sorted(int(p.name) for p in again.folder.iterdir()) == [2, 3]


def test_an_unknown_best_metric_names_the_nearest(opened):
    checkpoints, _ = opened(CheckpointConfig(best_metric="held_in/scor"))
    with pytest.raises(UserError, match="did you mean 'held_in/score'"):
        checkpoints.add_evaluation(0, {"held_in/score": 1.0})
    with pytest.raises(UserError, match="did you mean 'held_in/score'"):
        save(checkpoints, make_state(), 1, {"held_in/score": 1.0})
    checkpoints.finish()


# What orbax had begun to read is collected when it likes, with a complaint.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_to_any_file_never_gives_wrong_numbers(opened, tmp_path):
    """Each file of the newest checkpoint in turn is cut short, emptied, or gone."""
    state = make_state()
    checkpoints, _ = opened()
    for step in (1, 2):
        save(checkpoints, state, step)
    checkpoints.finish(needed=2)
    files = [p.relative_to(checkpoints.folder) for p in (checkpoints.folder / "2").rglob("*")]
    fell_back = 0
    for number, name in enumerate(f for f in files if (checkpoints.folder / f).is_file()):
        for kind in ("half", "gone"):
            folder = tmp_path / f"{number}-{kind}"
            shutil.copytree(tmp_path / "run", folder)
            path = folder / "checkpoints" / name
            if kind == "half":
                path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            else:
                path.unlink()
            again, told = opened(folder=folder)
            restored = again.restore_newest(like(state), like(SUMS))
            assert restored.step in (1, 2), name
            assert_same(restored.state, at_step(state, restored.step))
            if told:
                fell_back += 1
                assert restored.step == 1
                assert "checkpoints/2 is damaged" in told[0]
                assert "going back to step 1" in told[0]
                assert (folder / "damaged" / "2").is_dir()
                save(again, state, 2)  # the step is free again
            again.finish()
    assert fell_back >= 6


def test_what_another_process_cannot_read_is_damaged_for_all(opened, monkeypatch):
    checkpoints, _ = opened()
    for step in (1, 2):
        save(checkpoints, make_state(), step)
    checkpoints.finish()
    again, told = opened()
    found = iter([[0, 2], [0, 0], [0, 0]])  # reading 2, setting it aside, reading 1
    monkeypatch.setattr("flanx.training.checkpoint._everybodys", lambda mine: next(found))
    assert again.restore_newest(like(make_state()), like(SUMS)).step == 1
    assert "checkpoints/2 is damaged (on process 1); going back to step 1" in told[0]


def test_all_damaged_is_an_error(opened):
    checkpoints, _ = opened()
    save(checkpoints, make_state(), 1)
    checkpoints.finish()
    shutil.rmtree(checkpoints.folder / "1" / "params")
    again, told = opened()
    with pytest.raises(UserError, match="can be read"):
        again.restore_newest(like(make_state()), like(SUMS))
    assert "there is none before it" in told[0]


def test_another_shape_or_optimizer_is_refused(opened):
    checkpoints, _ = opened()
    save(checkpoints, make_state(), 1)
    checkpoints.finish()
    again, _ = opened()
    with pytest.raises(
        UserError, match=r"1 array of another shape: scale \(6,\) there and \(7,\) here"
    ):
        again.restore_newest(like(make_state(width=7)), like(SUMS))
    other = make_state(optimizer=AdamW().build(RATE))
    with pytest.raises(UserError, match="another optimizer"):
        again.restore_newest(like(other), like(SUMS))
    again.finish()


def test_a_full_disk_is_told_and_the_next_save_works(opened, monkeypatch):
    """The write fails in the background, as it does on a real disk."""
    state = make_state()
    checkpoints, told = opened()
    save(checkpoints, state, 1)
    checkpoints.poll(1, wait=True)
    real = os.rename

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    monkeypatch.setattr(os, "replace", full)
    save(checkpoints, state, 2)
    checkpoints.poll(2, wait=True)
    monkeypatch.setattr(os, "rename", real)
    monkeypatch.undo()
    assert "checkpoint of step 2 could not be saved" in told[0]
    assert "training goes on" in told[0]
    assert checkpoints.steps() == [1]
    assert [checkpoints.due(step) for step in (101, 102, 1000)] == [False, True, True]
    save(checkpoints, state, 102)
    checkpoints.finish(needed=102)
    assert told[1:] == ["the checkpoint of step 102 is saved: writing works again"]


def test_a_last_save_that_fails_is_an_error(opened):
    checkpoints, _ = opened()
    save(checkpoints, make_state(), 1)
    with pytest.raises(UserError, match="step 5 could not be written .* goes on from step 1"):
        checkpoints.finish(needed=5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_export_and_restore(tmp_path, dtype):
    params = make_state().params
    export_params(tmp_path / "out", params, dtype, FACTS)
    assert read_facts(tmp_path / "out")["dtype"] == dtype
    restored = restore_params(open_initial(str(tmp_path / "out")), like(params))
    for x, y in zip(jax.tree.leaves(restored), jax.tree.leaves(params), strict=True):
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(x, y.astype(dtype).astype(jnp.float32))
    with pytest.raises(UserError, match="not empty"):
        export_params(tmp_path / "out", params)


def test_every_place_is_found(opened, tmp_path):
    state = make_state()
    checkpoints, _ = opened()
    for step in (1, 2):
        save(checkpoints, state, step)
    checkpoints.finish()
    for path, step in (("run", 2), ("run/checkpoints", 2), ("run/checkpoints/1", 1)):
        restored = restore_params(open_initial(str(tmp_path / path)), like(state.params))
        assert_same(restored, at_step(state, step).params)
    assert find_params(tmp_path / "run", 1).name == "1"
    for path, step, message in (
        ("", None, "no checkpoint at"),
        ("run", 7, r"step 7: .* has no such checkpoint \(it has 1, 2\)"),
        ("run/checkpoints/1", 2, "is one checkpoint by itself"),
    ):
        with pytest.raises(UserError, match=message):
            find_params(tmp_path / path, step)
    with pytest.raises(UserError, match=r"gcloud storage cp -r gs://bucket/x"):
        find_params("gs://bucket/x")


def test_folders_of_other_forms_are_found(tmp_path):
    for name in ("checkpoint_10", "checkpoint_9", "checkpoint_11.tmp-123"):
        (tmp_path / "t5x" / name).mkdir(parents=True)
        (tmp_path / "t5x" / name / "checkpoint").touch()
    assert find_params(tmp_path / "t5x").name == "checkpoint_10"
    assert find_params(tmp_path / "t5x", 9).name == "checkpoint_9"
    assert find_params(tmp_path / "t5x" / "checkpoint_9", 9).name == "checkpoint_9"
    (tmp_path / "orbax" / "checkpoint_3" / "state").mkdir(parents=True)
    assert find_params(tmp_path / "orbax").name == "checkpoint_3"
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").touch()
    assert find_params(tmp_path / "hf") == tmp_path / "hf"


def test_another_vocabulary_is_refused_and_other_sentinels_are_not():
    theirs = FACTS["vocabulary"]
    ours = {"spec": "other.model", "fingerprint": "xyz+100", "size": 60}
    with pytest.raises(UserError, match=r"'v.model' \(50 ids\), .* 'other.model' \(60 ids\)"):
        check_vocabulary(theirs, ours, "there")
    fewer = {"spec": "v.model?extra_ids=0", "fingerprint": "abc+0", "size": 40}
    check_vocabulary(theirs, fewer, "there")
    check_vocabulary(None, ours, "there")


KILLED = """
import sys, signal, os, time, threading
sys.path.insert(0, sys.argv[1])
import test_checkpoint as t
from flanx.training.checkpoint import Checkpoints
from flanx.training.config import CheckpointConfig
checkpoints = Checkpoints(sys.argv[2], CheckpointConfig(keep=2), t.FACTS, print)
state = t.make_state()
restored = checkpoints.restore_newest(t.like(state), t.like(t.SUMS))
step = 0 if restored is None else restored.step
if restored is not None:
    t.assert_same(restored.state, t.at_step(state, step))
print("at", step, flush=True)
for step in range(step + 1, step + 200):
    t.save(checkpoints, state, step)
    print("saving", step, flush=True)
"""


def test_kill_at_any_instant_leaves_a_whole_checkpoint(tmp_path):
    """Processes that do nothing but save are killed in the midst of it; each next one reads what the last left."""
    rng = np.random.default_rng(0)
    script = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "run")]
    reached = 0
    for _ in range(4):
        with subprocess.Popen(
            script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            lines = int(rng.integers(2, 9))
            for line in child.stdout:
                lines -= 1
                if line.startswith("at"):
                    # What was finished before the kill is still there: all saves but the last one or two.
                    assert int(line.split()[1]) >= reached - 1, line
                if line.startswith("saving"):
                    reached = int(line.split()[1])
                if not lines:
                    for _ in range(int(rng.integers(0, 200_000))):
                        pass
                    child.send_signal(signal.SIGKILL)
                    break
            errors = child.stderr.read()
        assert child.returncode == -signal.SIGKILL, errors
        assert reached


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_changed_bit_is_never_used(opened, tmp_path):
    """One bit in each covered file of the newest checkpoint in turn: it is set aside, the one before is taken."""
    state = make_state()
    checkpoints, _ = opened()
    for step in (1, 2):
        save(checkpoints, state, step)
    checkpoints.finish(needed=2)
    newest = checkpoints.folder / "2"
    files = [p.relative_to(newest) for p in newest.rglob("*") if p.is_file()]
    covered = [f for f in files if f.parts[0] in ("params", "train", "run")]
    assert len(covered) >= 8
    for number, name in enumerate(covered):
        folder = tmp_path / f"flip-{number}"
        shutil.copytree(tmp_path / "run", folder)
        path = folder / "checkpoints" / "2" / name
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        again, told = opened(folder=folder)
        restored = again.restore_newest(like(state), like(SUMS))
        assert restored.step == 1, name
        assert f"{name} is not what was written" in told[0]
        again.finish()


def test_checkpoints_of_before_there_were_digests_open(opened):
    checkpoints, _ = opened()
    save(checkpoints, make_state(), 1)
    checkpoints.finish()
    (checkpoints.folder / "1" / "digests.json").unlink()
    again, told = opened()
    assert again.restore_newest(like(make_state()), like(SUMS)).step == 1
    assert told == []


def test_a_changed_bit_is_refused_as_a_start(opened, tmp_path):
    checkpoints, _ = opened()
    save(checkpoints, make_state(), 1)
    checkpoints.finish()
    path = next(p for p in (checkpoints.folder / "1" / "params").rglob("d/*") if p.is_file())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="checkpoint .*1 is damaged: params/.* is not what"):
        open_initial(str(tmp_path / "run"))


def test_the_checkpoint_before_the_skips_stays(opened):
    """Whatever `keep` says, the newest one that is not after the step where updates began to be skipped."""
    checkpoints, told = opened(CheckpointConfig(keep=1, period=1))
    for step in (1, 2):
        save(checkpoints, make_state(), step)
    checkpoints.before_skips = 2
    checkpoints.postpone(3)
    checkpoints.postpone(4)
    assert len(told) == 1
    for step in (5, 6):
        save(checkpoints, make_state(), step)
    checkpoints.finish(needed=6)
    assert sorted(int(p.name) for p in checkpoints.folder.iterdir()) == [2, 6]


def test_a_folder_that_cannot_be_made_is_known_at_once(opened, monkeypatch):
    """Without a thread that waits for it, and with the fix for what was wrong."""
    checkpoints, _ = opened()

    def refuse():
        raise PermissionError(errno.EACCES, "Permission denied", "checkpoints")

    monkeypatch.setattr(checkpoints, "_probe", refuse)
    save(checkpoints, make_state(), 1)
    with pytest.raises(UserError, match=r"step 1 could not be written .*allow this user") as caught:
        checkpoints.finish(needed=1)
    assert "make room" not in str(caught.value)


def test_a_lost_lease_deletes_nothing(opened, tmp_path):
    held = [True]

    def hold():
        if not held[0]:
            raise UserError("taken over")

    config = CheckpointConfig(keep=1)
    checkpoints = Checkpoints(tmp_path / "run", config, FACTS, print, hold)
    save(checkpoints, make_state(), 1)
    checkpoints.poll(1, wait=True)
    held[0] = False
    with pytest.raises(UserError, match="taken over"):
        save(checkpoints, make_state(), 2)
    assert [p.name for p in checkpoints.folder.iterdir()] == ["1"]
