"""Digests of files: every single changed bit is found, and named; what was written before there were any opens."""

import json

import numpy as np
import pytest

from flanx import digests


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("params/d/one", 5000), ("params/manifest", 70), ("run/metadata", 1)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(size))
    (tmp_path / "other").write_bytes(b"not covered")
    digests.write(tmp_path, ("params", "run", "train"))
    return tmp_path


def test_sizes_and_checksums_are_those_of_zlib(folder):
    stored = json.loads((folder / digests.FILE).read_text())
    assert stored["algorithm"] == "crc32"
    assert sorted(stored["files"]) == ["params/d/one", "params/manifest", "run/metadata"]
    (folder / "known").write_bytes(b"123456789")
    digests.write(folder, ("known",))
    # The check value of CRC-32/ISO-HDLC.
    assert json.loads((folder / digests.FILE).read_text())["files"]["known"] == [9, 0xCBF43926]


def test_every_changed_bit_is_found(folder):
    digests.check(folder)
    rng = np.random.default_rng(1)
    for name in ("params/d/one", "params/manifest", "run/metadata"):
        path = folder / name
        content = path.read_bytes()
        for _ in range(40):
            changed = bytearray(content)
            changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
            path.write_bytes(changed)
            with pytest.raises(digests.Damaged, match=f"{name} is not what was written"):
                digests.check(folder)
        path.write_bytes(content)
    (folder / "other").write_bytes(b"changed")
    digests.check(folder)


def test_files_cut_short_or_gone_are_named(folder):
    path = folder / "params/d/one"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(digests.Damaged, match="params/d/one has 4,999 bytes instead of 5,000"):
        digests.check(folder)
    path.unlink()
    with pytest.raises(digests.Damaged, match="params/d/one is missing"):
        digests.check(folder)
    digests.check(folder, ("run", "train"))


def test_only_what_will_be_read_and_each_process_its_share(folder):
    (folder / "params/manifest").write_bytes(b"x" * 70)
    digests.check(folder, ("run",))
    found = []
    for index in range(3):
        try:
            digests.check(folder, share=(index, 3))
        except digests.Damaged:
            found.append(index)
    assert len(found) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\0" * 50, b"\xff", b'{"files": {"a": [1]}}', b"{}"]
)
def test_digests_that_are_damaged(folder, content):
    (folder / digests.FILE).write_bytes(content)
    with pytest.raises(digests.Damaged, match=digests.FILE):
        digests.check(folder)


def test_without_digests_there_is_nothing_to_compare(folder):
    (folder / digests.FILE).unlink()
    (folder / "params/d/one").write_bytes(b"")
    digests.check(folder)
