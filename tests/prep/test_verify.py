"""A cache folder looked at as it is, without the sources."""

import dataclasses
import os
import shutil

import pytest

from flanx.cli import main as cli
from flanx.errors import UserError
from flanx.prep import prepared, verify
from flanx.prep.cache import cache
from flanx.prep.progress import Progress


@pytest.fixture
def copied(collection, tmp_path):
    """A cache folder of three tasks on another machine: no data, no module."""
    shop = collection(one=5, two=4, three=3)
    (manifest,) = cache([shop.request()], workers=0, progress=Progress())
    shutil.copytree(shop.cache_dir, tmp_path / "elsewhere")
    shutil.rmtree(shop.folder / "data")
    shutil.rmtree(shop.cache_dir)
    shop.module.unlink()
    return tmp_path / "elsewhere", manifest


def look(folder):
    return verify.verify_folder(folder, progress=Progress())


def flip(path, at):
    """Changes a bit and leaves the file's times as they were."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_what_is_whole_is_counted(copied):
    folder, manifest = copied
    size = sum(entry.store_bytes for entry in manifest.entries)
    assert look(folder) == verify.Verified(3, size, ())


def test_every_damage_is_named(copied):
    folder, manifest = copied
    one, three, two = (folder / entry.path for entry in manifest.entries)
    flip(one / "tokens.arrow", 200)
    (two / "tokens.arrow").write_bytes((two / "tokens.arrow").read_bytes()[:-9])
    shutil.copy(one / "tokens.arrow", three / "tokens.arrow")
    found = look(folder)
    assert found.whole == 0
    assert len(found.damaged) == 3
    for path, line in zip((one, three, two), found.damaged, strict=True):
        assert line.startswith(f"{path}/tokens.arrow: ")
    assert "checksum differs" in found.damaged[0]


def test_a_store_that_a_manifest_needs_must_be_there_and_be_its_own(copied):
    folder, manifest = copied
    shutil.rmtree(folder / manifest.entries[0].path)
    path = folder / "manifests" / os.path.basename(next((folder / "manifests").iterdir()))
    changed = dataclasses.replace(manifest.entries[1], content="other")
    dataclasses.replace(manifest, entries=(manifest.entries[0], changed, manifest.entries[2])).save(
        path
    )
    found = look(folder)
    assert found.whole == 1
    assert "missing, but" in found.damaged[0]
    assert "holds other tokens than" in found.damaged[1]


def test_a_broken_manifest_is_named(copied):
    folder, _ = copied
    (path,) = (folder / "manifests").iterdir()
    path.write_text("{")
    assert [line.startswith(str(path)) for line in look(folder).damaged] == [True]
    assert look(folder).whole == 3


def test_what_a_killed_run_left_is_no_store(copied):
    folder, manifest = copied
    task = (folder / manifest.entries[0].path).parent
    (task / ".tmp-host-1-0123abcd-train-0123456789abcdef").mkdir()
    (task / ".parts-train-0123456789abcdef").mkdir()
    assert look(folder).whole == 3
    assert look(folder).damaged == ()


def test_no_folder_and_no_store_are_errors(tmp_path):
    with pytest.raises(UserError, match="no such cache folder"):
        look(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no token store"):
        look(tmp_path)


def test_the_command_needs_no_mixture(copied, capsys, monkeypatch):
    monkeypatch.setenv("FLANX_PROGRESS", "off")
    folder, manifest = copied
    command = ["cache", "--verify", "--cache_dir", str(folder)]
    assert cli.main(command) == 0
    assert "3 stores" in capsys.readouterr().err
    store_folder = folder / manifest.entries[1].path
    flip(store_folder / "tokens.arrow", 200)
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert "1 damaged in" in said
    assert f"{store_folder}/tokens.arrow" in said


def test_what_was_changed_after_it_was_written_is_never_taken_for_whole(collection):
    """Not even without --verify: the file is newer than its meta.json."""
    shop = collection(one=5, two=2)
    request = shop.request()
    (manifest,) = cache([request], workers=0, progress=Progress())
    tokens = shop.cache_dir / manifest.entries[0].path / "tokens.arrow"
    content = bytearray(tokens.read_bytes())
    content[200] ^= 1
    tokens.write_bytes(content)
    later = (tokens.parent / "meta.json").stat().st_mtime_ns + 1
    os.utime(tokens, ns=(later, later))
    assert prepared.ready(request) is None
    assert cache([request], workers=0, progress=Progress()) == [manifest]
    assert look(shop.cache_dir).damaged == ()


def test_a_meta_json_that_was_cut_is_made_again_without_verify(collection):
    """Else the loader would send to `flanx cache`, which would find nothing to do."""
    shop = collection(one=5, two=2)
    request = shop.request()
    (manifest,) = cache([request], workers=0, progress=Progress())
    meta = shop.cache_dir / manifest.entries[0].path / "meta.json"
    meta.write_bytes(meta.read_bytes()[:50])
    assert prepared.ready(request) is None
    cache([request], workers=0, progress=Progress())
    assert look(shop.cache_dir).damaged == ()
