"""What is shown while caching, and how many processes there are."""

import io

import pytest

from flanx.prep import progress
from flanx.prep.pool import worker_count


def test_lines_are_few(monkeypatch):
    clock = iter([0.0, 0.0, 1.0, 6.0, 6.0, 7.0, 8.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    with progress.Lines(stream) as lines:
        lines.start(3)
        lines.advance("a", 1000)
        lines.advance("b", 500)
        lines.warn("'c' is odd")
        lines.advance("c", 0)
    assert stream.getvalue().splitlines() == [
        "cache: 2 of 3 tasks, 1,500 examples, 6 s",
        "cache: 'c' is odd",
        "cache: 3 of 3 tasks, 1,500 examples, 8 s",
    ]


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


@pytest.mark.parametrize(
    ("wanted", "units", "count"), [(0, 9, 0), (3, 9, 3), (3, 2, 2), (1, 1, 1), (None, 1, 0)]
)
def test_worker_count(wanted, units, count):
    assert worker_count(wanted, units) == count


def test_one_worker_a_core_unless_told():
    assert worker_count(None, 10**6) >= 1
