"""Stores: what is written is read, whole or not at all."""

import contextlib
import errno
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flanx import temporary
from flanx.data import store
from flanx.data.store import Example, StoreDamaged

META = {"task": "t", "split": "train", "key": "k", "dropped": {}, "clipped": {}}
ROWS = [Example([5, 6, 1], [7, 1], 10, 2), Example([8, 1], [9, 9, 1], 12, 0)]

texts = st.text(max_size=8)


def examples(top: int) -> st.SearchStrategy[list[Example]]:
    tokens = st.lists(st.integers(0, top), max_size=12)
    return st.lists(
        st.builds(
            Example,
            inputs=tokens,
            targets=tokens,
            example_id=st.integers(0, 2**62),
            template=st.integers(0, 1000),
            inputs_text=texts,
            targets_text=st.lists(texts, min_size=1, max_size=3),
            options=st.none() | st.lists(texts, max_size=3),
        ),
        max_size=12,
    )


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from([1 << 16, (1 << 16) + 1]), st.booleans())
def test_what_is_written_is_read(tmp_path_factory, data, size, for_eval):
    rows = data.draw(examples(size - 1))
    folder = tmp_path_factory.mktemp("store") / "task" / "train-k"
    meta = store.write(folder, iter(rows), dict(META), vocabulary_size=size, for_eval=for_eval)
    read = store.open(folder)
    assert read.meta == json.loads(json.dumps(meta))
    assert read.num_examples == len(rows)
    assert read.feature("inputs")[0].dtype == (np.uint16 if size <= 1 << 16 else np.uint32)
    assert read.input_lengths.tolist() == [len(row.inputs) for row in rows]
    assert read.target_lengths.tolist() == [len(row.targets) for row in rows]
    assert read.example_ids.tolist() == [row.example_id for row in rows]
    assert read.templates.tolist() == [row.template for row in rows]
    assert read.has_text == for_eval
    for i, row in enumerate(rows):
        assert read.inputs(i).tolist() == row.inputs
        assert read.targets(i).tolist() == row.targets
        if for_eval:
            assert read.inputs_text(i) == row.inputs_text
            assert read.references(i) == row.targets_text
            assert read.options(i) == row.options
    histogram = meta["lengths"]["inputs"]["histogram"]
    assert sum(histogram.values()) == len(rows)


def test_reading_copies_nothing(tmp_path):
    store.write(tmp_path / "s", ROWS, dict(META), vocabulary_size=100)
    before = pa.total_allocated_bytes()
    read = store.open(tmp_path / "s")
    values, offsets = read.feature("targets")
    assert not values.flags.owndata
    assert not offsets.flags.owndata
    assert offsets.dtype == np.int64
    assert np.shares_memory(read.targets(1), values)
    assert pa.total_allocated_bytes() - before < 4096


def test_tokens_beyond_memory_wait_on_disk(tmp_path, monkeypatch):
    small = store.write(tmp_path / "memory", ROWS * 9, dict(META), vocabulary_size=100)
    monkeypatch.setattr(store, "_SPILL", 4)
    spilt = store.write(tmp_path / "disk", ROWS * 9, dict(META), vocabulary_size=100)
    assert spilt["sha256"] == small["sha256"]
    assert sorted(os.listdir(tmp_path / "disk")) == ["meta.json", "tokens.arrow"]


def test_any_arrow_tool_reads_it(tmp_path):
    store.write(tmp_path / "s", ROWS, dict(META), vocabulary_size=100)
    table = pa.ipc.open_file(str(tmp_path / "s/tokens.arrow")).read_all()
    assert table.column("inputs").to_pylist() == [[5, 6, 1], [8, 1]]
    assert table.column_names == ["inputs", "targets", "example_id", "template"]


def test_meta_may_be_filled_while_rows_are_read(tmp_path):
    meta = dict(META)

    def rows():
        yield ROWS[0]
        meta["dropped"] = {"empty target": 1}

    assert store.write(tmp_path / "s", rows(), meta, vocabulary_size=9)["dropped"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    def rows():
        yield ROWS[0]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.write(tmp_path / "t" / "s", rows(), dict(META), vocabulary_size=9)
    assert os.listdir(tmp_path / "t") == []


def test_losing_a_race_is_no_failure(tmp_path):
    def rows():
        yield ROWS[0]
        store.write(tmp_path / "s", ROWS, dict(META), vocabulary_size=99)

    store.write(tmp_path / "s", rows(), dict(META), vocabulary_size=99)
    assert store.open(tmp_path / "s").num_examples == 2
    assert os.listdir(tmp_path) == ["s"]


def test_a_damaged_folder_is_replaced(tmp_path):
    store.write(tmp_path / "s", ROWS, dict(META), vocabulary_size=99)
    (tmp_path / "s/tokens.arrow").write_bytes(b"")
    store.write(tmp_path / "s", ROWS, dict(META), vocabulary_size=99)
    assert store.open(tmp_path / "s").num_examples == 2
    assert os.listdir(tmp_path) == ["s"]


def _truncate(folder):
    path = folder / "tokens.arrow"
    path.write_bytes(path.read_bytes()[:-100])


def _grow(folder):
    with (folder / "tokens.arrow").open("ab") as handle:
        handle.write(b"x")


def _blank_footer(folder):
    path = folder / "tokens.arrow"
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(200))


def _another_tasks_file(folder):
    other = folder.with_name("other")
    store.write(other, ROWS, {**META, "key": "q"}, vocabulary_size=99)
    shutil.copy(other / "tokens.arrow", folder)


def _no_meta(folder):
    (folder / "meta.json").unlink()


def _half_meta(folder):
    path = folder / "meta.json"
    path.write_text(path.read_text()[:50])


def _no_tokens(folder):
    (folder / "tokens.arrow").unlink()


@pytest.mark.parametrize(
    "damage",
    [_truncate, _grow, _blank_footer, _another_tasks_file, _no_meta, _half_meta, _no_tokens],
)
def test_damage_is_found_on_opening(tmp_path, damage):
    folder = tmp_path / "s"
    store.write(folder, ROWS, dict(META), vocabulary_size=99)
    damage(folder)
    with pytest.raises(StoreDamaged, match=str(folder)):
        store.open(folder)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    folder = tmp_path / "s"
    store.write(folder, ROWS, dict(META), vocabulary_size=99)
    store.verify(folder)
    path = folder / "tokens.arrow"
    content = bytearray(path.read_bytes())
    values = store.open(folder).feature("inputs")[0].tobytes()
    content[bytes(content).index(values)] ^= 1
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a failing disk does it
    store.open(folder)
    with pytest.raises(StoreDamaged, match="checksum differs"):
        store.verify(folder)


def test_no_flipped_bit_ends_otherwise_than_named(tmp_path):
    """A bit of Arrow's own header once led to memory that is not the file's, on `verify` too."""
    folder = tmp_path / "s"
    store.write(folder, ROWS, dict(META), vocabulary_size=99)
    for name, bits in (("tokens.arrow", (1, 128)), ("meta.json", (4,))):
        path = folder / name
        whole = path.read_bytes()
        times = path.stat()
        for place in range(len(whole)):
            for bit in bits:
                content = bytearray(whole)
                content[place] ^= bit
                path.write_bytes(content)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
                with contextlib.suppress(StoreDamaged):
                    store.open(folder)
            if name == "tokens.arrow":
                with pytest.raises(StoreDamaged):
                    store.verify(folder)
        path.write_bytes(whole)


def test_what_was_written_to_later_is_compared_with_its_checksum(tmp_path):
    folder = tmp_path / "s"
    meta = store.write(folder, ROWS, dict(META), vocabulary_size=99)
    path = folder / "tokens.arrow"
    content = path.read_bytes()
    later = (folder / "meta.json").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))  # copied, say: looked at once and then taken as whole
    assert store.looks_whole(str(folder), meta["bytes"])
    assert (folder / "meta.json").stat().st_mtime_ns != later - 10**9
    flipped = bytearray(content)
    flipped[content.index(store.open(folder).feature("targets")[0].tobytes())] ^= 1
    path.write_bytes(flipped)
    later = (folder / "meta.json").stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    assert not store.looks_whole(str(folder), meta["bytes"])
    with pytest.raises(StoreDamaged, match="checksum differs"):
        store.open(folder)


@pytest.mark.parametrize("for_eval", [False, True])
def test_stores_among_the_rows_are_copied_as_they_lie(tmp_path, for_eval):
    rows = [
        Example(
            [i + 3, 1], [9] * (i % 3) + [1], i, i % 2, f"t{i}", (f"r{i}",), ("a",) if i else None
        )
        for i in range(9)
    ]

    def write(name, items):
        return store.write(
            tmp_path / name, items, dict(META), vocabulary_size=99, for_eval=for_eval
        )

    whole = write("whole", rows)
    write("a", rows[:4])
    write("b", rows[4:])
    parts = [store.open(tmp_path / name) for name in "ab"]
    assert write("bulk", parts)["sha256"] == whole["sha256"]
    assert (
        write("single", [row for part in parts for row in part.rows()])["sha256"] == whole["sha256"]
    )


def test_looks_whole_sees_size_and_end(tmp_path):
    meta = store.write(tmp_path / "s", ROWS, dict(META), vocabulary_size=99)
    folder = str(tmp_path / "s")
    assert store.looks_whole(folder, meta["bytes"])
    assert not store.looks_whole(folder, meta["bytes"] + 1)
    assert not store.looks_whole(str(tmp_path), meta["bytes"])
    described = (tmp_path / "s/meta.json").read_bytes()
    for cut in (described[:-9], b""):
        (tmp_path / "s/meta.json").write_bytes(cut)
        assert not store.looks_whole(folder, meta["bytes"])
    (tmp_path / "s/meta.json").write_bytes(described)
    assert store.looks_whole(folder, meta["bytes"])
    _blank_footer(tmp_path / "s")
    assert not store.looks_whole(folder, meta["bytes"])


def test_sweep_takes_what_dead_processes_left(tmp_path):
    host = temporary.prefix().split("-")[1]
    dead = 2**22 + 1  # above the largest process id
    names = [f".tmp-{host}-{dead}-0-a", f".tmp-elsewhere-{dead}-0-b", f".tmp-elsewhere-{dead}-0-c"]
    for name in [*names, "train-k"]:
        (tmp_path / name).mkdir()
    (tmp_path / f".tmp-{host}-{dead}-1-m.json").touch()
    mine = f"{temporary.prefix()}mine"
    (tmp_path / mine).mkdir()
    os.utime(tmp_path / names[2], (0, 0))
    removed = temporary.sweep(tmp_path)
    assert removed == sorted([names[0], names[2], f".tmp-{host}-{dead}-1-m.json"])
    assert sorted(os.listdir(tmp_path)) == sorted([names[1], "train-k", mine])
    assert temporary.sweep(tmp_path / "nowhere") == []
