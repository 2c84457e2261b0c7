"""Files as they come: compressed under any name, JSON arrays, other encodings and kinds; read right, or told how to."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flanx
from flanx.registry.sources import Jsonl, Parquet, Tsv

ROWS = [{"q": f"say {i}", "a": f"w{i}"} for i in range(6)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def _zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACKED = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": _zstd}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.GZ", "a.zst", "a.bz2", "a"])
@pytest.mark.parametrize("form", [None, *PACKED])
def test_compression_is_told_by_the_content(tmp_path: Path, name: str, form: str | None):
    pack = PACKED[form] if form else bytes
    (tmp_path / name).write_bytes(pack(TEXT))
    source = Jsonl(train=str(tmp_path / name))
    assert list(source.rows("train")) == ROWS
    (tmp_path / name).write_bytes(
        pack(TEXT) + (pack(TEXT) if form else b"")
    )  # members one after the other
    assert source.count("train") == (12 if form else 6)
    (tmp_path / name).write_bytes(pack(b"q\ta\nx\ty\n"))
    assert list(Tsv(train=str(tmp_path / name)).rows("train")) == [{"q": "x", "a": "y"}]


@pytest.mark.parametrize("form", PACKED)
def test_compressed_files_that_are_cut_or_damaged(tmp_path: Path, form: str):
    path = tmp_path / "a.jsonl"
    packed = PACKED[form](TEXT * 50)
    damaged = packed[: len(packed) // 2] + bytes(20) + packed[len(packed) // 2 + 20 :]
    for content in (packed[: len(packed) * 2 // 3], damaged):
        path.write_bytes(content)
        with pytest.raises(flanx.UserError) as caught:
            list(Jsonl(train=str(path)).rows("train"))
        assert str(caught.value).startswith(f"{path}:")
        assert "\n" not in str(caught.value)
        assert f"not a whole {form} file" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"q": "é"}'.encode("latin-1"), r"a:1: not UTF-8 .*iconv -f LATIN1"),
        ('{"q": "x"}\n'.encode("utf-16"), r"a: UTF-16.*iconv -f UTF-16 -t UTF-8"),
        ('{"q": "x"}\n'.encode("utf-16-le"), r"a:1: .*NUL bytes.*iconv -f UTF-16LE"),
        ('{"q": "x"}\n'.encode("utf-32"), r"a: UTF-32.*iconv"),
        (b'{"q": "x"}\r{"q": "y"}\r', r"a:1: .*carriage returns alone: tr"),
        (b'{"q": "x"}{"q": "y"}\n', r"a:1: .*several objects on the line: .*jq -c \. "),
        (b'{"q": "x"}\n\0\0\0\0\n', r"a:2: .*NUL bytes.*not written whole"),
        (b'{"q": "x"},\n{"q": "y"}\n', r"a:1: .*a comma ends the line"),
        (b"{'q': 'x'}\n", r"a:1: .*single quotes: write the row with json\.dumps"),
        (b'{\n  "q": "x"\n}\n', r"a:1: .*an object on several lines"),
        (b'{"q": "x"}\n{"q": "y\n', r"a:2: not a line of JSON \(Unterminated string"),
        (b'{"q": "x"}\n{"q": \n', r"a:2: .*the line ends early"),
        (b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n", r"a:1: nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", r"a:1: a number of more than 4,300 digits"),
        (b'{"q": 1, "a": 2, "q": 3}\n', r"a:1: the key 'q' stands twice"),
        (b'{"q": 1}\n{"m": {"q": 1, "q": 2}}\n', r"a:2: the key 'q' stands twice"),
        (b"[" * 200_000, r"a:1: nested too deeply"),
        (b'[{"q": 1},\n {"q": 2}', r"a:2: not a whole JSON array"),
        (b'[{"q": 1},\n {"q": 2},\n]', r"a:3: not a whole JSON array"),
        (b'[{"q": 1},\n 2]', r"a:2: the array holds a JSON int"),
        (b'[{"q": 1},\n {"q": }]', r"a:2: not a"),
        (b'[{"q": 1}]\n[{"q": 2}]', r"a:2: more after the JSON array"),
        (b'[\n{"q": 1},\n{"q": 1, "q": 2}]', r"a:3: the key 'q' stands twice"),
        (b"PK\x03\x04rest", r"a: a zip archive.*unzip"),
        (b"PAR1rest", r"a: a Parquet file.*flanx\.Parquet"),
        (b"ARROW1\0\0", r"a: an Arrow file"),
    ],
)
def test_what_cannot_be_read_is_one_line_with_place_and_fix(
    tmp_path: Path, content: bytes, said: str
):
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(flanx.UserError, match=said) as caught:
        list(Jsonl(train=str(path)).rows("train"))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_keys_that_agree_lose_nothing():
    from flanx.registry.sources import json_rows

    assert json_rows.unique([("q", 1), ("q", 1), ("a", float("nan"))])["q"] == 1
    with pytest.raises(json_rows.DuplicateKey):
        json_rows.unique([("q", 1), ("q", 2)])


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_rows_with_the_lines_they_open_on(tmp_path: Path, indent: int | None):
    path = tmp_path / "alpaca.json"
    path.write_bytes(b"\xef\xbb\xbf\n" + json.dumps(ROWS, indent=indent).encode() + b"\n\n")
    source = Jsonl(train=str(path))
    assert list(source.rows("train")) == ROWS
    assert source.count("train") == 6
    assert source.where("train", 2) == f"{path}:{2 if indent is None else 11}"
    path.write_bytes(gzip.compress(b"[ ]"))
    assert list(source.rows("train")) == []


def test_columns_of_one_name_are_refused(tmp_path: Path):
    (tmp_path / "a.tsv").write_text("q\ta\tq\nx\ty\tz\n")
    with pytest.raises(flanx.UserError, match=r"a\.tsv:1: two columns of one name, 'q'"):
        list(Tsv(train=str(tmp_path / "a.tsv")).rows("train"))
    with pytest.raises(flanx.UserError, match="two columns of one name"):
        Tsv(("q", "q"), train="a.tsv")
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["q", "q"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(flanx.UserError, match=r"a\.parquet: two columns of one name, 'q'"):
        list(Parquet(train=str(tmp_path / "a.parquet")).rows("train"))
    with pytest.raises(flanx.UserError, match="a folder where a file is expected"):
        list(Parquet(train=str(tmp_path)).rows("train"))


def test_parquet_of_large_rows_is_read_a_few_at_a_time(tmp_path: Path):
    from flanx.registry.sources import parquet_rows

    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"q": [chr(97 + i) * (1 << 22) for i in range(8)]}), path, compression=None
    )
    assert parquet_rows._batch_rows(pq.read_metadata(path)) == 3
    assert [len(row["q"]) for _, row in parquet_rows.rows(str(path), None)] == [1 << 22] * 8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Jsonl(train=3), "Jsonl: train=3 is no path"),
        (lambda: Jsonl(train=""), "Jsonl: train='' is no path"),
        (lambda: Jsonl(train=["a", None]), "Jsonl: train=None is no path"),
        (lambda: flanx.Generated("rows", train=3), "Generated: 'rows' is no function"),
        (lambda: flanx.Generated(dict, train=-1), "Generated: train=-1 is no number of rows"),
        (lambda: flanx.Generated(dict, train=2.5), "Generated: train=2.5 is no number of rows"),
        (lambda: flanx.HeldOut("a", key="q"), "HeldOut: 'a' is no source"),
        (lambda: flanx.HeldOut(Jsonl(train="a"), "x", key="q"), "share 'x' is not between"),
    ],
)
def test_wrong_arguments_of_sources(make: Callable[[], object], said: str):
    with pytest.raises(flanx.UserError, match=said):
        make()
