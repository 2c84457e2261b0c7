"""What a run survives: kills at any instant, disks that are full, numbers that are not finite, notices of an end."""

import dataclasses
import http.server
import json
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from flanx import temporary
from flanx.errors import Diverged
from flanx.training import leftovers, notices
from flanx.training.config import CheckpointConfig
from flanx.training.loop import train
from flanx.training.params_io import read_facts, read_tree
from flanx.training.preemption import Preemption
from flanx.training.schedules import Constant
from flanx.training.writers import AllWriters

ONE = jax.devices()[:1]
KILLED = (-signal.SIGALRM, -signal.SIGKILL)


def checkpoint_bytes(model_dir, step):
    """Every array of a checkpoint, and its place in the data."""
    folder = Path(model_dir) / "checkpoints" / str(step)
    found = {}
    for item in ("params", "train"):
        for path, leaf in jax.tree.leaves_with_path(read_tree(folder / item, None)):
            found[item + jax.tree_util.keystr(path)] = np.asarray(leaf).tobytes()
    return found | {"run": read_facts(folder)}


def files(model_dir):
    """Names of what a run leaves beside its checkpoints; every process that goes on has events of its own."""
    names = {path.name.split(".tfevents")[0] for path in Path(model_dir).iterdir()}
    return names | set(Path(model_dir).glob("eval/*"))


def instants(rng):
    """Twenty: soon after the start, some time after a step, at some file of a save; the run gets further each time."""
    kinds = [*["start"] * 6, *["step"] * 7, *["file"] * 7]
    rng.shuffle(kinds)
    for number, kind in enumerate(kinds):
        step = 2 * number + int(rng.integers(1, 3))
        if kind == "start":
            yield ("die_after", float(rng.uniform(0, 0.7)))
        elif kind == "step":
            yield ("die_after", float(rng.uniform(0.001, 0.1)), step)
        else:
            yield ("die_at_file", step, int(rng.integers(1, 30)))


@pytest.mark.nightly
def test_kill_at_any_instant_changes_nothing(toy_config, forks, read_metrics):
    """A run killed twenty times ends in the bytes of one left alone; a checkpoint is begun every other step."""
    whole = toy_config("whole", train_steps=50, checkpoint=CheckpointConfig(period=100))
    assert forks.run(whole).status == 0
    config = dataclasses.replace(
        whole, model_dir=f"{whole.model_dir}-killed", checkpoint=CheckpointConfig(period=2, keep=3)
    )
    reached = 0
    for number, fault in enumerate(instants(np.random.default_rng(0))):
        child = forks.run(config, fault)
        assert (child.status in KILLED, child.err) == (True, ""), (number, fault)
        there = [p.name for p in (Path(config.model_dir) / "checkpoints").glob("*")]
        newest = max((int(name) for name in there if name.isdigit()), default=0)
        assert newest >= reached
        reached = newest
    assert reached >= 30
    child = forks.run(config)
    assert (child.status, child.err) == (0, "")
    assert f"going on from step {reached}" in child.out
    assert checkpoint_bytes(config.model_dir, 50) == checkpoint_bytes(whole.model_dir, 50)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)
    assert (Path(config.model_dir) / "metrics.jsonl").read_text().endswith("}\n")
    assert sorted(os.listdir(f"{config.model_dir}/checkpoints")) == ["46", "48", "50"]
    assert checkpoint_bytes(config.model_dir, 46)
    assert files(config.model_dir) == files(whole.model_dir)


# A rate that throws the parameters out of range in the first step: every later gradient is infinite or none.
WILD = Constant(1e38)


def wild(toy_config, name="wild", **changes):
    settings = {
        "train_steps": 20,
        "schedule": WILD,
        "most_skipped_in_a_row": 5,
        "checkpoint": CheckpointConfig(period=3, keep=None),
    }
    return toy_config(name, **(settings | changes))


def test_a_run_that_learns_nothing_ends(toy_config, read_metrics):
    """Steps 2 to 6 are skipped; no line after step 5, however many were in flight by then, and no checkpoint at all."""
    config = wild(toy_config)
    with pytest.raises(Diverged) as caught:
        train(config, devices=ONE)
    told = str(caught.value)
    assert "not finite 5 times in a row, at the steps 2 to 6" in told
    assert "skipped at a learning rate of 1e+38 (the last batch held toy." in told
    assert "there is no checkpoint before them" in told
    assert caught.value.status == 65
    folder = Path(config.model_dir)
    assert list((folder / "checkpoints").iterdir()) == []
    lines = read_metrics(folder)
    assert [(line["step"], line["values"].get("skipped_updates")) for line in lines] == [
        (2, 1),
        (4, 2),
    ]
    # Nothing was saved: the same command begins again, and ends at the same step.
    with pytest.raises(Diverged, match="at the steps 2 to 6"):
        train(config, devices=ONE)
    assert read_metrics(folder) == lines


def test_the_checkpoint_before_is_named_and_patience_has_no_end(toy_config):
    good = wild(toy_config, train_steps=2, schedule=Constant())
    train(good, devices=ONE)
    config = wild(toy_config)
    with pytest.raises(Diverged, match=r"checkpoints/3 is the last checkpoint before them"):
        train(config, devices=ONE)
    patient = wild(toy_config, most_skipped_in_a_row=None)
    assert train(patient, devices=ONE).step == 20


def test_a_full_disk_is_told_once_and_waited_for(toy_config, forks, read_metrics):
    """From step 5 to 14 the kernel refuses files above a few bytes; what was refused is written when it does not.

    Steps take longer than saves, as they do where saves matter, so that one is tried again before the next is due.
    """
    settings = {"train_steps": 22, "checkpoint": CheckpointConfig(period=10, keep=None)}
    whole = toy_config("whole", **settings)
    assert forks.run(whole).status == 0
    config = toy_config("full", **settings)
    child = forks.run(config, ("full", 5, 14, 64), ("slow", 9, 0.3))
    assert child.status == 0, child.err
    assert child.out.count("could not be saved") == 1
    assert "tries again every 1 step" in child.out
    assert "writing works again" in child.out
    assert child.out.count("metrics.jsonl cannot be written") == 1
    assert child.err == ""
    steps = {int(p.name) for p in (Path(config.model_dir) / "checkpoints").iterdir()}
    assert {20, 22} < steps
    assert min(steps) in range(14, 20)
    assert checkpoint_bytes(config.model_dir, 22) == checkpoint_bytes(whole.model_dir, 22)
    assert read_metrics(config.model_dir) == read_metrics(whole.model_dir)


def test_a_disk_that_stays_full(toy_config, forks):
    config = toy_config(train_steps=12, checkpoint=CheckpointConfig(period=4, keep=None))
    child = forks.run(config, ("full", 10, 99, 64))
    assert child.status == 2
    assert "the checkpoint of step 12 could not be written" in child.err
    (kept,) = re.findall(r"it goes on from step ([48])\)", child.err)
    assert len(child.err.splitlines()) == 1
    again = forks.run(config)
    assert (again.status, f"going on from step {kept}" in again.out) == (0, True)


def test_writers_outlive_a_full_disk(tmp_path, monkeypatch, capsys):
    """Half a line is taken back; the next call writes both."""
    writers = AllWriters(str(tmp_path), step=0, total=4, log_period=1)
    values = {"loss": 1.0, "accuracy": 0.5}
    writers.train(1, values)
    write = os.write

    def little(file, content):
        if len(content) <= 10:
            raise OSError(28, "No space left on device")
        return write(file, content[:10])

    monkeypatch.setattr(os, "write", little)
    writers.train(2, values)
    writers.train(3, values)
    path = tmp_path / "metrics.jsonl"
    assert len(path.read_text().splitlines()) == 1
    monkeypatch.undo()
    writers.train(4, values)
    writers.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]
    assert capsys.readouterr().out.count("cannot be written") == 2  # one file each


def test_events_begin_on_a_full_disk(tmp_path, monkeypatch):
    """What opens the file waits with the rest; one file is made, and it is whole."""
    from tensorboardX.record_writer import masked_crc32c

    def full(file, content):
        raise OSError(28, "No space left on device")

    writers = AllWriters(str(tmp_path), step=0, total=4, log_period=1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        for step in (1, 2):
            writers.train(step, {"loss": 1.0, "accuracy": 0.5})
    writers.train(3, {"loss": 1.0, "accuracy": 0.5})
    writers.close()
    (path,) = tmp_path.glob("events.*")
    content, records = path.read_bytes(), 0
    while content:
        size = int.from_bytes(content[:8], "little")
        assert int.from_bytes(content[12 + size : 16 + size], "little") == masked_crc32c(
            content[12 : 12 + size]
        )
        content, records = content[16 + size :], records + 1
    assert records == 2 + 3 * 2  # version, start; the step and its tasks


class Metadata(http.server.BaseHTTPRequestHandler):
    """Google Cloud's metadata server, as far as it speaks of preemption."""

    answers: dict[str, str] = {}  # noqa: RUF012

    def do_GET(self):
        name = self.path.removeprefix("/computeMetadata/v1/")
        known = name in self.answers and self.headers["Metadata-Flavor"] == "Google"
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(self.answers.get(name, "").encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def metadata(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv(notices.HOST, f"127.0.0.1:{server.server_port}")
    yield Metadata.answers
    server.shutdown()
    thread.join()
    server.server_close()
    Metadata.answers.clear()


def test_a_new_notice_of_the_cloud_stops_the_run(metadata, toy_config, monkeypatch):
    """One that was there at the start does not: a run would be started again and again in vain."""
    host = notices.metadata_host()
    assert notices.google_notice(host) is None
    metadata |= {"instance/preempted": "FALSE", "instance/maintenance-event": "NONE"}
    assert notices.google_notice(host) is None
    metadata["instance/maintenance-event"] = "TERMINATE_ON_HOST_MAINTENANCE"
    assert "instance/maintenance-event" in notices.google_notice(host)
    monkeypatch.setattr(notices, "SECONDS", 0.01)
    looked, heard = threading.Event(), threading.Event()
    look, ask = notices.google_notice, Preemption._ask

    def note_look(host):
        answer = look(host)
        looked.set()
        return answer

    monkeypatch.setattr(notices, "google_notice", note_look)

    def note(self, name):
        ask(self, name)
        heard.set()

    monkeypatch.setattr(Preemption, "_ask", note)
    asked = Preemption.asked

    def after_three_steps(self, step):
        if step == 3:
            assert looked.wait(60)
            metadata["instance/preempted"] = "TRUE"
            assert heard.wait(60)
        return asked(self, step)

    monkeypatch.setattr(Preemption, "asked", after_three_steps)
    result = train(toy_config(), devices=ONE)
    assert (result.step, result.preempted) == (3, True)


def test_no_metadata_server_no_notice(monkeypatch, tmp_path):
    monkeypatch.delenv(notices.HOST, raising=False)
    monkeypatch.setattr(notices, "PRODUCT", tmp_path / "product_name")
    assert notices.metadata_host() is None
    notices.PRODUCT.write_text("Google Compute Engine\n")
    assert notices.metadata_host() == "metadata.google.internal"
    assert notices.google_notice("127.0.0.1:1") is None


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = f"{temporary.prefix()}toy.a-1.jsonl"
    theirs = mine.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    for folder in (tmp_path, tmp_path / "eval"):
        folder.mkdir(exist_ok=True)
        for name in (mine, theirs):
            (folder / name).touch()
    leftovers.remove(str(tmp_path))
    assert {path.name for path in tmp_path.rglob(".tmp-*")} == {mine}
