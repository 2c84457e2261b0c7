"""JSONL in, JSONL out: order, continuation after a kill, malformed lines."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx.errors import UserError
from flanx.evaluation.answer_file import answer_file


class Reverser:
    """Answers with the text reversed, counts questions, and dies after `lives` of them."""

    def __init__(self, lives=10**9):
        self.asked, self.lives = [], lives

    def __call__(self, texts):
        if len(self.asked) + len(texts) > self.lives:
            raise KeyboardInterrupt
        self.asked += texts
        return [text[::-1] for text in texts]


def _write(path, count):
    rows = [{"id": i, "inputs": f"question {i} ü\u2028", "extra": [i]} for i in range(count)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return rows


def _read(path):
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def _expected(rows):
    return [{**row, "prediction": row["inputs"][::-1]} for row in rows]


def test_other_fields_pass_through_in_order(tmp_path):
    rows = _write(tmp_path / "in.jsonl", 7)
    seen = []
    outcome = answer_file(
        tmp_path / "in.jsonl",
        tmp_path / "out.jsonl",
        Reverser(),
        window=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert _read(tmp_path / "out.jsonl") == _expected(rows)
    assert (outcome.answered, outcome.kept, outcome.skipped) == (7, 0, 0)
    assert seen == [(0, 7), (3, 7), (6, 7), (7, 7)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 11), window=st.integers(1, 4), data=st.data())
def test_a_killed_job_goes_on_without_repeating_or_losing_a_line(
    tmp_path_factory, count, window, data
):
    folder = tmp_path_factory.mktemp("infer")
    source, output = folder / "in.jsonl", folder / "out.jsonl"
    rows = _write(source, count)
    lives = data.draw(st.integers(0, count), label="answers before the kill")
    first = Reverser(lives)
    try:
        answer_file(source, output, first, window=window)
    except KeyboardInterrupt:
        partial = folder / "out.jsonl.partial"
        assert not output.exists()
        size = partial.stat().st_size
        cut = data.draw(st.integers(0, size), label="bytes that reached the disk")
        with partial.open("ab") as handle:
            handle.truncate(cut)
        before = partial.read_bytes().count(b"\n") // window * window
        second = Reverser()
        outcome = answer_file(source, output, second, window=window)
        assert outcome.kept == before
        assert second.asked == [row["inputs"] for row in rows[before:]]
    assert _read(output) == _expected(rows)
    assert not list(folder.glob("*.partial*"))


def test_another_job_starts_again(tmp_path):
    _write(tmp_path / "in.jsonl", 5)
    with pytest.raises(KeyboardInterrupt):
        answer_file(
            tmp_path / "in.jsonl", tmp_path / "out.jsonl", Reverser(2), window=2, job={"step": 1}
        )
    other = Reverser()
    answer_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", other, window=2, job={"step": 2})
    assert len(other.asked) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"inputs": "a"', "not valid JSON"),
        ('["a"]', "not a JSON object but list"),
        ('{"input": "a"}', "no field 'inputs'; did you mean 'input'?"),
        ('{"inputs": 3}', "field 'inputs' is no text but int"),
        (b"\xff\xfe", "not valid JSON"),
        (r'{"inputs": "\ud83d"}', "no valid Unicode"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    source = tmp_path / "in.jsonl"
    raw = line if isinstance(line, bytes) else line.encode()
    source.write_bytes(b'{"inputs": "ok"}\n\n' + raw + b'\n{"inputs": "fine"}\n')
    with pytest.raises(UserError) as caught:
        answer_file(source, tmp_path / "out.jsonl", Reverser())
    assert str(caught.value).startswith(f"{source}:3: ")
    assert message in str(caught.value)
    assert "--skip_bad" in str(caught.value)

    outcome = answer_file(source, tmp_path / "out.jsonl", Reverser(), skip_bad=True)
    assert (outcome.answered, outcome.skipped) == (2, 1)
    assert [row["prediction"] for row in _read(tmp_path / "out.jsonl")] == ["ko", "enif"]
    (bad,) = _read(tmp_path / "out.jsonl.bad")
    assert bad["line"] == 3
    assert message in bad["error"]


def test_half_a_surrogate_pair_elsewhere_passes_through(tmp_path):
    (tmp_path / "in.jsonl").write_text(r'{"inputs": "ab", "note": "\ud83d"}')
    answer_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Reverser())
    (row,) = _read(tmp_path / "out.jsonl")
    assert row == {"inputs": "ab", "note": "\ud83d", "prediction": "ba"}


def test_another_field(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"question": "abc"}')
    answer_file(tmp_path / "in.jsonl", tmp_path / "o.jsonl", Reverser(), field="question")
    assert _read(tmp_path / "o.jsonl") == [{"question": "abc", "prediction": "cba"}]


def test_no_such_input(tmp_path):
    with pytest.raises(UserError, match="does not exist; --input takes a JSONL file"):
        answer_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl", Reverser())
    with pytest.raises(UserError, match="is a folder"):
        answer_file(tmp_path, tmp_path / "out.jsonl", Reverser())
