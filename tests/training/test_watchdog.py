"""Who holds up a run: what the watchdog says of words on a board, without processes, threads or clocks."""

import pytest

from flanx.training.board import Board
from flanx.training.hang_report import DATA, DEVICES, Beat, report, suspects
from flanx.training.watchdog import Watchdog


def beats(*told):
    return [Beat(i, f"host-{i}", step, doing, 0.0) for i, (step, doing) in enumerate(told)]


@pytest.mark.parametrize(
    ("told", "silent", "found"),
    [
        ([(9, DEVICES), (8, DATA), (9, DEVICES)], [], [1]),
        ([(8, DEVICES), (8, "writing logs")], [], [1]),
        ([(9, DEVICES), (9, DEVICES), (7, DEVICES)], [], [2]),
        ([(9, DEVICES), (9, DEVICES)], [], []),
        ([(9, DATA), (9, DATA)], [], []),
        ([(9, DEVICES), (8, DATA), (9, DEVICES)], [2], [2]),
        ([(9, DATA)], [], []),
    ],
)
def test_suspects(told, silent, found):
    assert [beat.process for beat in suspects(beats(*told), silent)] == found


def test_reports():
    def text(told, silent=(), status=75):
        return report(beats(*told), silent, seconds=600, stacks="run/hang-*.txt", status=status)

    several = text([(122, DEVICES), (122, DEVICES), (120, DATA), (121, DEVICES)])
    assert several.startswith(
        "flanx: no step for 10 minutes: process 2 (host-2) is at step 120 since "
    )
    assert (
        "waiting for data; the other 3 wait at step 121 to 122. Stacks: run/hang-*.txt" in several
    )
    assert several.endswith("started again, the run goes on from its last checkpoint")
    silent = text([(5, DEVICES), (4, DEVICES)], [1], status=None)
    assert "process 1 (host-1) is at step 4" in silent
    assert silent.endswith(
        "and not heard of any more; the other 1 wait at step 5. Stacks: run/hang-*.txt"
    )
    assert "all 2 processes are at step 7, waiting for the devices" in text([(7, DEVICES)] * 2)
    assert "the run is at step 7 since " in text([(7, DATA)])
    many = text([(9, DEVICES)] + [(8, DATA)] * 9)
    assert "process 5 (host-5)" in many and "process 6" not in many
    assert "; 4 more; " in many


class Store(dict):
    """The part of `jax.distributed`'s client that the board needs."""

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite or key not in self
        self[key] = value

    def key_value_dir_get(self, folder):
        return [(key, value) for key, value in self.items() if key.startswith(folder)]


def pack(tmp_path, count, **settings):
    """Watchdogs of `count` processes after a step, and the statuses that they end with."""
    store, left = Store(), []
    dogs = []
    for index in range(count):
        board = Board(index, count, store if count > 1 else None)
        settings = {"limit": 40.0, "ends": True, **settings}
        dog = Watchdog(str(tmp_path), board, leave=left.append, **settings)
        dog.step(7)
        dog.doing = DEVICES
        dogs.append(dog)
    return dogs, left


def test_a_step_in_time_is_no_hang(tmp_path):
    (dog,), left = pack(tmp_path, 1)
    for step in range(8, 12):
        dog.beat(30.0)
        dog.step(step)
    assert not left
    assert not list(tmp_path.iterdir())


def test_what_takes_its_time_by_right_is_no_hang(tmp_path, capsys):
    (dog,), left = pack(tmp_path, 1)
    with dog.busy("evaluating"):
        for _ in range(9):
            dog.beat(30.0)
    dog.beat(30.0)
    assert not left
    dog.doing = DATA
    dog.beat(30.0)
    assert left == [75]
    assert "no step for 60 s: the run is at step 7" in capsys.readouterr().err
    assert "test_watchdog.py" in (tmp_path / "hang-0.txt").read_text()


def test_starting_is_no_hang(tmp_path):
    left = []
    dog = Watchdog(str(tmp_path), Board(), limit=1.0, ends=True, leave=left.append)
    for _ in range(9):
        dog.beat(30.0)
    assert not left


def test_a_hang_that_is_only_told_is_told_once(tmp_path, capsys):
    (dog,), left = pack(tmp_path, 1, ends=False)
    for _ in range(5):
        dog.beat(30.0)
    assert capsys.readouterr().err.count("no step for") == 1
    dog.step(8)
    for _ in range(5):
        dog.beat(30.0)
    err = capsys.readouterr().err
    assert err.count("no step for") == 1
    assert "Ending" not in err
    assert not left


def test_an_alarm_reaches_the_others_and_the_silent_are_named(tmp_path, capsys, monkeypatch):
    """Process 2 says nothing after its first word. Process 1 notices, process 0 hears the alarm and reports."""
    monkeypatch.setattr("flanx.training.watchdog.time.sleep", lambda seconds: None)
    dogs, left = pack(tmp_path, 3)
    dogs[2].beat(1.0)
    for _ in range(4):
        dogs[0].beat(1.0)
        dogs[1].beat(15.0)
    assert left == [75]
    assert "no step" not in capsys.readouterr().err
    dogs[0].beat(50.0)
    assert left == [75, 75]
    line = capsys.readouterr().err
    assert "process 2 (" in line and "and not heard of any more; the other 2 wait" in line
    assert {path.name for path in tmp_path.iterdir()} == {"hang-0.txt", "hang-1.txt"}


def test_a_board_that_does_not_answer_ends_the_process(tmp_path, capsys, monkeypatch):
    """Process 0, which keeps it, is gone: after a failed operation, and in the middle of a hang."""
    monkeypatch.setattr("flanx.training.watchdog.time.sleep", lambda seconds: None)
    dogs, left = pack(tmp_path, 2)

    def gone(self, *words):
        raise RuntimeError("UNAVAILABLE: connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(Board, "_set", gone)
        dogs[1].failed()
    assert left == [75]
    told = capsys.readouterr().err
    assert "process 0, through which" in told
    assert "Ending with status 75: started again, the run" in told
    dogs[0].beat(1.0)
    with monkeypatch.context() as patched:
        patched.setattr(Board, "raise_alarm", gone)
        with pytest.raises(RuntimeError):
            dogs[0].beat(50.0)
    assert left == [75]
    dogs[0].beat(50.0)
    assert left == [75, 75]
