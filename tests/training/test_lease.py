"""One run at a time in a MODEL_DIR: who holds it, who is taken for dead, and what a holder does that has lost it."""

import dataclasses
import json
import os
import subprocess
import sys
import threading

import pytest

from flanx.errors import UserError
from flanx.training import lease
from flanx.training.lease import Lost, take


def quiet(text):
    raise AssertionError(f"watched: {text}")


def never(seconds):
    raise AssertionError("waited")


def held(folder):
    return json.loads((folder / lease.FILE).read_text())


def elsewhere(folder, **changes):
    """A lease as a process on another machine leaves it."""
    fields = {
        "id": "x",
        "host": "host-b",
        "process": 7,
        "since": "2026-01-02 03:04:05 UTC",
        "machine": "another",
        "namespace": "",
        "born": "1",
        "locked": True,
    }
    (folder / lease.FILE).write_text(json.dumps(fields | changes))


HOLDS = """
import sys, time
from flanx.training import lease
held = lease.take(sys.argv[1], say=print)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def process(tmp_path):
    """A process of its own that holds the lease of `tmp_path`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_taken_named_and_given_back(tmp_path):
    mine = take(tmp_path, say=quiet, wait=never)
    assert (held(tmp_path)["process"], held(tmp_path)["host"]) == (os.getpid(), os.uname().nodename)
    mine.check()
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_a_living_holder_is_named_at_once(tmp_path, process):
    with pytest.raises(UserError) as caught:
        take(tmp_path, say=quiet, wait=never)
    told = str(caught.value)
    assert f"process {process.pid} on {os.uname().nodename} since 20" in told
    assert "MODEL_DIR" in told
    assert "\n" not in told
    assert held(tmp_path)["process"] == process.pid
    assert len(list(tmp_path.iterdir())) == 1


def test_a_killed_holder_delays_nobody(tmp_path, process):
    process.kill()
    process.wait()
    mine = take(tmp_path, say=quiet, wait=never)
    assert held(tmp_path)["process"] == os.getpid()
    mine.release()


def test_a_killed_holder_whose_number_came_round_again(tmp_path):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(lease.temporary, "started", lambda process: "123")
        dead = take(tmp_path, say=quiet, wait=never)
    # (The lock is still this process's, as it is where a process that the dead one forked lives on.)
    take(tmp_path, say=quiet, wait=lambda seconds: None).release()
    dead.release()


@pytest.mark.parametrize("killed", [False, True])
def test_a_holder_in_another_container_of_this_machine(tmp_path, process, killed, monkeypatch):
    """Its process number says nothing here; the kernel's lock does."""
    monkeypatch.setattr(lease, "_namespace", lambda: "pid:[1]")
    if killed:
        process.kill()
        process.wait()
        take(tmp_path, say=quiet, wait=never).release()
    else:
        with pytest.raises(UserError, match=f"process {process.pid} on"):
            take(tmp_path, say=quiet, wait=never)


def test_a_holder_on_another_machine_is_watched(tmp_path):
    """Untouched for a minute it is dead, whatever its clock says; touched once, it lives."""
    said, waited = [], []
    elsewhere(tmp_path)
    path = tmp_path / lease.FILE
    os.utime(path, (4e9, 4e9))  # a clock in the future
    mine = take(tmp_path, say=said.append, wait=waited.append)
    assert sum(waited[:-1]) == lease.STALE_SECONDS
    assert "process 7 on host-b since 2026-01-02 03:04:05 UTC" in said[0]
    mine.release()

    elsewhere(tmp_path)
    beats = []

    def beat(seconds):
        beats.append(seconds)
        if len(beats) == 3:
            os.utime(path, (1, 1))  # a clock in the past

    with pytest.raises(UserError, match="process 7 on host-b"):
        take(tmp_path, say=said.append, wait=beat)
    assert len(beats) == 3
    assert held(tmp_path)["process"] == 7


def test_two_that_take_over_at_once(tmp_path):
    """The last of them has it, and the first sees that before it begins."""
    elsewhere(tmp_path)

    def other(seconds):
        if seconds == lease.SETTLE_SECONDS:
            elsewhere(tmp_path, id="y", process=8)

    with pytest.raises(UserError, match="process 8 on host-b"):
        take(tmp_path, say=lambda text: None, wait=other)


def test_a_holder_on_another_machine_that_ends_meanwhile(tmp_path):
    elsewhere(tmp_path)
    path = tmp_path / lease.FILE
    mine = take(tmp_path, say=lambda text: None, wait=lambda s: path.unlink(missing_ok=True))
    mine.release()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\0" * 99, b"\xff", b'{"id": 1}'])
def test_a_damaged_lease_is_watched(tmp_path, content):
    (tmp_path / lease.FILE).write_bytes(content)
    said = []
    mine = take(tmp_path, say=said.append, wait=lambda seconds: None)
    assert len(said) == 1
    assert held(tmp_path)["process"] == os.getpid()
    mine.release()


def test_a_holder_that_lost_it_says_so_and_leaves_it_alone(tmp_path):
    mine = take(tmp_path, say=quiet, wait=never)
    elsewhere(tmp_path)
    with pytest.raises(Lost, match="taken over by process 7 on host-b") as caught:
        mine.check()
    assert caught.value.status == 2
    mine.release()
    assert held(tmp_path)["process"] == 7


def soon(holds):
    """Waits for what another thread does, a minute at most."""
    pause = threading.Event()
    assert any(holds() or pause.wait(0.005) for _ in range(12_000))


def test_the_thread_touches_it_and_notices(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_SECONDS", 0.005)
    mine = take(tmp_path, say=quiet, wait=never)
    path = tmp_path / lease.FILE
    os.utime(path, (1, 1))
    soon(lambda: path.stat().st_mtime != 1)
    path.unlink()  # somebody cleans up
    soon(path.exists)
    elsewhere(tmp_path)
    mine._thread.join(60)
    with pytest.raises(Lost):
        mine.check(read=False)
    mine.release()


def test_without_hard_links(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    mine = take(tmp_path, say=quiet, wait=never)
    assert held(tmp_path)["locked"] is False
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        take(tmp_path, say=quiet, wait=never)
    mine.release()
    assert list(tmp_path.iterdir()) == []


def test_holders_are_told_apart(tmp_path):
    mine = take(tmp_path, say=quiet, wait=never)
    assert dataclasses.asdict(mine._mine) == held(tmp_path)
    mine.release()


def test_a_lease_given_back_while_it_is_looked_at_is_free(tmp_path, monkeypatch):
    """A holder in another container of this machine, of which only the kernel's lock tells."""
    elsewhere(tmp_path, machine=lease._machine(), namespace="another", locked=True)
    looked = os.open

    def gone(path, *arguments, **settings):
        if str(path).endswith(lease.FILE):
            monkeypatch.undo()
            (tmp_path / lease.FILE).unlink()
        return looked(path, *arguments, **settings)

    monkeypatch.setattr(os, "open", gone)
    mine = take(tmp_path, say=quiet, wait=never)
    assert held(tmp_path)["process"] == os.getpid()
    mine.release()
