"""A JSONL file of questions: which lines count, and which are malformed."""

import json

import pytest

from flanx.errors import UserError
from flanx.evaluation.question_file import put_aside, read, refuse


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"inputs": "a"', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('["a"]', "not a JSON object but list"),
        ('{"input": "a"}', "no field 'inputs'; did you mean 'input'?"),
        ('{"inputs": 3}', "field 'inputs' is no text but int"),
        (b"\xff\xfe", "not valid JSON"),
        (r'{"inputs": "\ud83d"}', "no valid Unicode"),
        ('{"inputs": "bad"}', "this is bad"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    source = tmp_path / "in.jsonl"
    raw = line if isinstance(line, bytes) else line.encode()
    source.write_bytes(b'{"inputs": "ok"}\n\n' + raw + b'\n{"inputs": "fine"}\n')
    questions, bad = read(
        source, check=lambda row: "this is bad" if row["inputs"] == "bad" else None
    )
    with pytest.raises(UserError) as caught:
        refuse(source, bad)
    assert str(caught.value).startswith(f"{source}:3: ")
    assert message in str(caught.value)
    assert "--skip_bad" in str(caught.value)

    assert questions.count == 2
    assert [row["inputs"] for row in questions.rows(0)] == ["ok", "fine"]
    assert [row["inputs"] for row in questions.rows(1)] == ["fine"]
    side = put_aside(tmp_path / "out.jsonl", bad)
    (found,) = [json.loads(text) for text in side.read_text("utf-8").split("\n") if text]
    assert side.name == "out.jsonl.bad"
    assert found["line"] == 3
    assert message in found["error"]
    put_aside(tmp_path / "out.jsonl", [])
    assert not side.exists()


def test_another_field(tmp_path):
    source = tmp_path / "in.jsonl"
    source.write_text('{"question": "abc"}')
    questions, bad = read(source, "question")
    assert list(questions.rows(0)) == [{"question": "abc"}]
    refuse(source, bad)
    assert questions.identity != read(source, "inputs")[0].identity


def test_no_such_input(tmp_path):
    with pytest.raises(UserError, match="does not exist; --input takes a JSONL file"):
        read(tmp_path / "in.jsonl")
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)
