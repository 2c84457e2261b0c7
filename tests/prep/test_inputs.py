"""Records of the files that a result depends on."""

import os

from flanx.data import manifest as manifests
from flanx.prep.inputs import Inputs


def test_records_are_of_content_and_sorted(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    paths = [str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "b"), "gs://bucket/c"]
    inputs = Inputs()
    inputs.add(paths)
    records = inputs.records(paths)
    assert [record["path"] for record in records] == sorted({*paths[:2]})
    assert all(map(manifests.unchanged, records))


def test_an_earlier_checksum_is_taken_over_only_while_the_file_stands(tmp_path):
    path = tmp_path / "a"
    path.write_text("a")
    known = {**manifests.record_of(str(path)), "sha256": "known"}

    def checksum():
        inputs = Inputs([known])
        inputs.add([str(path)])
        return inputs.records([str(path)])[0]["sha256"]

    assert checksum() == "known"
    os.utime(path, (1, 1))
    assert checksum() != "known"


def test_the_state_is_that_of_the_first_look(tmp_path):
    path = tmp_path / "a"
    path.write_text("a")
    inputs = Inputs()
    inputs.add([str(path)])
    path.write_text("changed while it was read")
    inputs.add([str(path)])
    assert not manifests.unchanged(inputs.records([str(path)])[0])


def test_a_folder_stands_for_its_list_of_names(tmp_path):
    (tmp_path / "a").write_text("a")
    record = manifests.record_of(str(tmp_path))
    os.utime(tmp_path, (1, 1))
    assert manifests.unchanged(record)
    (tmp_path / "b").touch()
    assert not manifests.unchanged(record)
