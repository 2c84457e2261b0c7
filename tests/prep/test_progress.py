"""What is shown while caching, and how many processes there are."""

import io

import pytest

from flanx.prep import progress, server
from flanx.prep.jobs import Job
from flanx.prep.pool import worker_count
from flanx.prep.work_item import WorkItem


@pytest.fixture
def clock(monkeypatch):
    """Sets the time that displays see."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def set_to(seconds):
        now[0] = seconds

    return set_to


def test_lines_are_few(clock):
    stream = io.StringIO()
    with progress.Lines(stream) as lines:
        lines.start(3)
        clock(1.0)
        lines.advance("a", 1000)
        clock(6.0)
        lines.advance("b", 500)
        lines.warn("'c' is odd")
        clock(8.0)
        lines.advance("c", 0)
    assert stream.getvalue().splitlines() == [
        "cache: 2 of 3 tasks, 6 s: 1,500 examples (250 a second)",
        "cache: 'c' is odd",
        "cache: 3 of 3 tasks, 8 s: 1,500 examples (188 a second)",
    ]


def test_what_was_there_counts_for_no_rate(clock):
    pace = progress.Pace(work=100.0)
    pace.add(5000, 60.0, made=False)
    assert pace.remaining is None
    clock(10.0)
    pace.add(300, 10.0, made=True)
    assert pace.rate == 30.0
    assert pace.remaining == 30.0  # 30 of work at 10 in 10 s
    assert str(pace) == "5,300 examples (30 a second), 30 s left"
    clock(1000.0)
    assert str(pace) == "5,300 examples (0 a second), 50 min left"


def test_a_part_of_a_task_tells_how_long_it_takes(clock):
    stream = io.StringIO()
    lines = progress.Lines(stream)
    lines.start(1, work=8.0)
    clock(6.0)
    lines.part("a", 2.0)
    assert stream.getvalue() == "cache: 0 of 1 tasks, 6 s: 0 examples, 18 s left\n"


def test_nothing_to_do_says_nothing():
    stream = io.StringIO()
    with progress.Lines(stream) as lines:
        lines.start(0)
    assert stream.getvalue() == ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_display_suits_the_stream(monkeypatch):
    monkeypatch.delenv("FLANX_PROGRESS", raising=False)
    assert isinstance(progress.default(io.StringIO()), progress.Lines)
    assert isinstance(progress.default(Terminal()), progress.Bar)
    monkeypatch.setenv("FLANX_PROGRESS", "off")
    assert type(progress.default(Terminal())) is progress.Progress


def test_bar_counts_tasks_and_examples(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.Bar() as bar:
        bar.start(2)
        bar.advance("a", 1200)
        bar.warn("'b' has [no] example")
        bar.advance("b", 0)
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "1,200 examples" in shown
    assert "'b' has [no] example" in shown


def job(cost, shards=1):
    return Job((WorkItem("t", "train", {}, "bytes", "/nowhere"),), cost, shards)


@pytest.mark.parametrize(
    ("wanted", "jobs", "count"),
    [
        (0, [job(1e9)] * 9, 0),
        (3, [job(1)] * 9, 3),
        (3, [job(1)] * 2, 2),
        (3, [job(1, shards=3)], 3),
        (None, [job(1e9)], 0),
        (None, [job(1)] * 9, 0),
        (None, [job(1e9)] * 9, 2),
        (None, [job(1e9, shards=2)], 2),
    ],
)
def test_worker_count(wanted, jobs, count, monkeypatch):
    monkeypatch.setattr(server, "core_count", lambda: 2)
    assert worker_count(wanted, jobs) == count
