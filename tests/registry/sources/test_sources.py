"""Sources: what each reads, and what it says of what it cannot read."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flanx
from flanx.registry import HeldOut, RowSource, Template
from flanx.registry.sources import Jsonl, Parquet, Tsv


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, by the environment; the working directory is another one."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("FLANX_DATA_DIR", str(tmp_path))
    return tmp_path


def test_jsonl_plain_and_zipped(folder: Path):
    text = '\ufeff{"a": "x\u2028y"}\r\n\n{"a": NaN}\n{"a": [1]}'
    (folder / "a.jsonl").write_text(text, encoding="utf-8", newline="")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    source = Jsonl(train="a.jsonl", validation="b.jsonl.gz", both=["a.jsonl", "b.jsonl.gz"])
    assert isinstance(source, RowSource)
    assert source.splits == ("train", "validation", "both")
    rows = list(source.rows("train"))
    assert rows[0] == {"a": "x\u2028y"}
    assert rows[2] == {"a": [1]}
    assert str(list(source.rows("validation"))) == str(rows)
    assert str(list(source.rows("both"))) == str(rows + rows)
    assert source.count("both") == 6
    assert source.where("both", 4) == f"{folder}/b.jsonl.gz:3"
    assert source.files("both") == [f"{folder}/a.jsonl", f"{folder}/b.jsonl.gz"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": 1}\n{"a": \n', ":2: not a line of JSON (Expecting value"),
        (b'{"a": 1}\n\n[1]\n', ":3: a JSON list where an object is expected"),
        (b'{"a": 1}\n{"a": "\xff"}\n', ":2: not UTF-8"),
    ],
)
def test_malformed_jsonl(folder: Path, content: bytes, said: str):
    (folder / "a.jsonl").write_bytes(content)
    with pytest.raises(flanx.UserError) as caught:
        list(Jsonl(train="a.jsonl").rows("train"))
    assert str(caught.value).startswith(f"{folder}/a.jsonl{said}")


@pytest.mark.parametrize("damage", [lambda zipped: zipped[:-9], lambda zipped: b"plain" + zipped])
def test_damaged_gzip(folder: Path, damage: Any):
    (folder / "a.jsonl.gz").write_bytes(damage(gzip.compress(b'{"a": 1}\n' * 9)))
    with pytest.raises(flanx.UserError, match="not a whole gzip file"):
        list(Jsonl(train="a.jsonl.gz").rows("train"))


def test_missing_file_and_folder(folder: Path):
    with pytest.raises(flanx.UserError, match=r"no such file or folder: 'x/a\.jsonl'") as caught:
        list(Jsonl(train="x/a.jsonl").rows("train"))
    assert str(folder / "x" / "a.jsonl") in str(caught.value)
    (folder / "a.jsonl").mkdir()
    with pytest.raises(flanx.UserError, match="a folder where a file is expected"):
        list(Jsonl(train="a.jsonl").rows("train"))
    with pytest.raises(flanx.UserError, match="no files"):
        Jsonl()


def test_folders_are_tried_in_order(folder: Path):
    (folder / "deep").mkdir()
    (folder / "deep/a.jsonl").write_text('{"a": 1}\n')
    source = Jsonl(train="a.jsonl", folders=("", "deep"))
    assert list(source.rows("train")) == [{"a": 1}]
    with pytest.raises(flanx.UserError, match="also not in 'deep'"):
        list(Jsonl(train="b.jsonl", folders=("", "deep")).rows("train"))


def test_tsv_has_no_quoting(folder: Path):
    (folder / "a.tsv").write_text('"q\\nr\ta "b"\ns\u2028t\tu\n\n', encoding="utf-8")
    source = Tsv(("question", "answer"), train="a.tsv")
    assert list(source.rows("train")) == [
        {"question": '"q\nr', "answer": 'a "b"'},
        {"question": "s\u2028t", "answer": "u"},
    ]
    kept = Tsv(("question", "answer"), line_break=None, train="a.tsv")
    assert next(kept.rows("train"))["question"] == '"q\\nr'


def test_tsv_with_header(folder: Path):
    (folder / "a.tsv").write_text("q\ta\nx\ty\n")
    assert list(Tsv(train="a.tsv").rows("train")) == [{"q": "x", "a": "y"}]
    assert Tsv(train="a.tsv").where("train", 0) == f"{folder}/a.tsv:2"


def test_wrong_column_count(folder: Path):
    (folder / "a.tsv").write_text("x\ty\nx\ty\tz\n")
    with pytest.raises(flanx.UserError) as caught:
        list(Tsv(("q", "a"), train="a.tsv").rows("train"))
    assert str(caught.value) == (
        f"{folder}/a.tsv:2: 3 columns where 2 are expected (q, a); check for a stray or missing tab"
    )


def test_parquet(folder: Path):
    pq.write_table(pa.table({"a": [1, 2], "b": [["x"], []]}), folder / "a.parquet")
    assert list(Parquet(train="a.parquet").rows("train")) == [
        {"a": 1, "b": ["x"]},
        {"a": 2, "b": []},
    ]
    assert list(Parquet(columns=["a"], train="a.parquet").rows("train")) == [{"a": 1}, {"a": 2}]
    assert Parquet(train="a.parquet").count("train") == 2
    with pytest.raises(flanx.UserError, match=r"no column 'c' \(it has a, b\)"):
        list(Parquet(columns=["c"], train="a.parquet").rows("train"))
    (folder / "b.parquet").write_text("no")
    with pytest.raises(flanx.UserError, match="not a whole Parquet file"):
        list(Parquet(train="b.parquet").rows("train"))


def test_needed_field_of_a_line(folder: Path):
    """The message names file and line, blank lines counted."""
    lines = [json.dumps({"q": "x", "a": "y"}), "", json.dumps({"q": "x"})]
    (folder / "a.jsonl").write_text("\n".join(lines))
    flanx.register(
        "a.b",
        source=flanx.Jsonl(train="a.jsonl"),
        fields={"question": "q", "answer": "a"},
        templates=[Template("{question}", "{answer}")],
    )
    with pytest.raises(flanx.UserError) as caught:
        list(flanx.registry.get_task("a.b.zs_noopt").render("train"))
    assert str(caught.value) == (
        f"{folder}/a.jsonl:3: the row has no field 'a', which task 'a.b' needs (it has q)"
    )


def test_held_out_rows_share_no_key_with_train(folder: Path):
    rows = [{"q": f"q{i % 200}", "n": i} for i in range(600)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = HeldOut(Jsonl(train="a.jsonl"), 0.2, key="q")
    train, held = list(source.rows("train")), list(source.rows("validation"))
    assert sorted(row["n"] for row in train + held) == list(range(600))
    assert not {row["q"] for row in train} & {row["q"] for row in held}
    assert 0.1 < len(held) / 600 < 0.3
    assert source.count("validation") == len(held)
    assert source.where("validation", 0) == f"{folder}/a.jsonl:{held[0]['n'] + 1}"
    assert source.fingerprint("train") != source.fingerprint("validation")
    with pytest.raises(flanx.UserError, match=r"a\.jsonl:1: the row has no column 'z'"):
        list(HeldOut(Jsonl(train="a.jsonl"), 0.2, key="z").rows("train"))


def test_held_out_mistakes():
    source = Jsonl(train="a", validation="b")
    with pytest.raises(flanx.UserError, match="has a split 'validation' already"):
        HeldOut(source, key="q")
    with pytest.raises(flanx.UserError, match="no split 'test'"):
        HeldOut(source, key="q", split="test", into="dev")
    with pytest.raises(flanx.UserError, match="not between 0 and 1"):
        HeldOut(source, 1.0, key="q", into="dev")


def test_fingerprint_follows_the_content(folder: Path):
    path = folder / "a.jsonl"
    path.write_text('{"a": 1}\n')
    source = Jsonl(train="a.jsonl")
    first = source.fingerprint("train")
    assert json.loads(json.dumps(first)) == first
    path.write_text('{"a": 2}\n')
    assert source.fingerprint("train") != first


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch):
    (folder / "a.jsonl").write_text("{}\n")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(flanx.UserError, match=r"a\.jsonl: cannot be read \(.*Permission denied"):
        list(Jsonl(train="a.jsonl").rows("train"))
