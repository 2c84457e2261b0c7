"""Answers in any order, a file in order: continuation after a kill, and nothing twice or lost."""

import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx.evaluation.answer_file import Questions, answer_file


def _questions(count):
    rows = [{"id": i, "inputs": f"question {i} ü\u2028", "extra": [i]} for i in range(count)]
    return rows, Questions(count, lambda first: iter(rows[first:]), {"sha256": "x"})


class Shuffler:
    """Answers with the text reversed, the last of each `window` first, and dies after `lives` answers."""

    def __init__(self, lives=10**9, window=3):
        self.asked, self.lives, self.window = [], lives, window

    def __call__(self, rows):
        held = []
        for place, row in rows:
            self.asked.append(place)
            held.append((place, {"prediction": row["inputs"][::-1]}))
            if len(held) == self.window:
                yield from self._given(held)
                held = []
        yield from self._given(held)

    def _given(self, held):
        for one in reversed(held):
            if not self.lives:
                raise KeyboardInterrupt
            self.lives -= 1
            yield one


def _read(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def _expected(rows):
    return [{**row, "prediction": row["inputs"][::-1]} for row in rows]


def test_other_fields_pass_through_in_order(tmp_path):
    rows, questions = _questions(7)
    seen = []
    outcome = answer_file(
        questions,
        tmp_path / "new" / "out.jsonl",
        Shuffler(),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert _read(tmp_path / "new" / "out.jsonl") == _expected(rows)
    assert (outcome.answered, outcome.kept) == (7, 0)
    assert seen == [(i, 7) for i in range(8)]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out.jsonl"]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 11), window=st.integers(1, 4), data=st.data())
def test_a_killed_job_goes_on_without_repeating_or_losing_a_line(
    tmp_path_factory, count, window, data
):
    output = tmp_path_factory.mktemp("infer") / "out.jsonl"
    rows, questions = _questions(count)
    lives = data.draw(st.integers(0, count), label="answers before the kill")
    try:
        answer_file(questions, output, Shuffler(lives, window))
    except KeyboardInterrupt:
        partial = output.with_name("out.jsonl.partial")
        assert not output.exists()
        size = partial.stat().st_size
        cut = data.draw(st.integers(0, size), label="bytes that reached the disk")
        zeros = data.draw(st.sampled_from([b"", b"\0\0\0", b"\0\0\n"]), label="after them")
        with partial.open("ab") as handle:
            handle.truncate(cut)
        before = partial.read_bytes().count(b"\n")
        with partial.open("ab") as handle:
            handle.write(zeros)
        second = Shuffler(window=window)
        outcome = answer_file(questions, output, second)
        assert outcome.kept == before
        assert second.asked == list(range(before, count))
    assert _read(output) == _expected(rows)
    assert [path.name for path in output.parent.iterdir()] == ["out.jsonl"]


CHILD = """
import sys
from flanx.evaluation.answer_file import answer_file
from flanx.evaluation.question_file import read

def answers(rows):
    for place, row in rows:
        if place == 5:
            print("now", flush=True)
            sys.stdin.read()  # until it is killed
        yield place, {"prediction": row["inputs"][::-1]}

questions, _ = read(sys.argv[1])
answer_file(questions, sys.argv[2], answers)
"""


def test_after_a_real_kill(tmp_path):
    from flanx.evaluation.question_file import read

    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows, _ = _questions(9)
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(source), str(output)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout.readline() == b"now\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    second = Shuffler()
    outcome = answer_file(read(source)[0], output, second)
    assert (outcome.kept, second.asked) == (5, [5, 6, 7, 8])
    assert _read(output) == _expected(rows)


def test_another_job_starts_again(tmp_path):
    _, questions = _questions(5)
    with pytest.raises(KeyboardInterrupt):
        answer_file(questions, tmp_path / "out.jsonl", Shuffler(3), job={"step": 1})
    other = Shuffler()
    answer_file(questions, tmp_path / "out.jsonl", other, job={"step": 2})
    assert len(other.asked) == 5


def test_half_a_surrogate_pair_elsewhere_passes_through(tmp_path):
    row = {"inputs": "ab", "note": "\ud83d"}
    questions = Questions(1, lambda first: iter([row][first:]), {})
    answer_file(questions, tmp_path / "out.jsonl", Shuffler())
    assert _read(tmp_path / "out.jsonl") == [{**row, "prediction": "ba"}]
