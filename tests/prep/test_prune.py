"""What nothing needs goes; what a manifest needs, or somebody is writing, stays."""

import os
import shutil

import pytest

from flanx import temporary
from flanx.cli import main as cli
from flanx.data import store
from flanx.errors import UserError
from flanx.prep import lock, prepared, prune
from flanx.prep.cache import cache
from flanx.prep.progress import Progress


def cached(shop, **changes):
    (manifest,) = cache([shop.request(**changes)], workers=0, progress=Progress())
    return manifest


def test_stores_of_earlier_data_go(collection):
    shop = collection(one=4, two=2)
    before = cached(shop)
    shop.write_rows("one", shop.words(5))
    after = cached(shop)
    size = sum(p.stat().st_size for p in (shop.cache_dir / before.entries[0].path).iterdir())
    found = prune.leftovers(shop.cache_dir)
    assert found == [prune.Leftover(before.entries[0].path, size)]
    assert before.entries[0].path in shop.stores()
    assert prune.prune(shop.cache_dir) == found
    assert shop.stores() == sorted(entry.path for entry in after.entries)
    assert prepared.ready(shop.request()) == after
    assert prune.prune(shop.cache_dir) == []


def test_every_manifest_counts_and_so_do_tasks_without_examples(collection):
    shop = collection(one=2, two=1)
    shop.write_rows("two", [{"word": "w", "answer": " "}])
    train = cached(shop)
    cached(shop, split="validation")
    (empty,) = train.unread
    assert empty in shop.stores()
    assert prune.leftovers(shop.cache_dir) == []
    manifest = shop.request(split="validation").manifest_path
    os.unlink(manifest)
    assert len(prune.prune(shop.cache_dir)) == 2
    assert {path.partition("-")[0].rpartition("/")[2] for path in shop.stores()} == {"train"}


def test_what_is_being_written_and_what_is_no_store_stays(collection):
    shop = collection(one=2)
    cached(shop)
    task = next(shop.cache_dir.glob(f"{shop.name}*"))
    host = temporary.prefix().split("-")[1]
    mine, dead = f"{temporary.prefix()}train-k", f".tmp-{host}-{2**22 + 1}-0-train-k"
    kept = [task / mine, task / "notes", shop.cache_dir / "other" / "deep"]
    gone = [task / dead, task / ".parts-train-0123456789abcdef", task / "train-0123456789abcdef"]
    for folder in (*kept, *gone):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (task / "link-0123456789abcdef").symlink_to(kept[2])
    found = prune.prune(shop.cache_dir)
    assert sorted(one.path for one in found) == sorted(
        str(path.relative_to(shop.cache_dir)) for path in gone
    )
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)


def test_files_of_filters_that_are_being_written_stay(collection):
    shop = collection(one=2)
    cached(shop)
    folders = [shop.cache_dir / "overlaps", shop.cache_dir / "sketches" / "one"]
    dead = temporary.prefix().replace(f"-{os.getpid()}-", f"-{2**22 + 1}-")
    for folder in folders:
        folder.mkdir(parents=True)
        for name in (f"{temporary.prefix()}k.arrow", f"{dead}k.arrow", "k.arrow"):
            (folder / name).write_bytes(b"x")
    prune.prune(shop.cache_dir)
    left = [path.name for folder in folders for path in folder.iterdir()]
    assert len(left) == 2
    assert all(name.startswith(f".tmp-{dead.split('-')[1]}-{os.getpid()}-") for name in left)


def test_a_task_folder_without_stores_goes_too(collection):
    shop = collection(one=2)
    manifest = cached(shop)
    os.unlink(shop.request().manifest_path)
    prune.prune(shop.cache_dir)
    assert not (shop.cache_dir / manifest.entries[0].path).parent.exists()


def test_an_unreadable_manifest_is_named_and_nothing_goes(collection):
    shop = collection(one=2)
    cached(shop)
    path = shop.request().manifest_path
    for content in ("", "[]", '{"entries": [{}]}'):
        with open(path, "w") as handle:
            handle.write(content)
        with pytest.raises(UserError, match=f"{path} is not a readable manifest"):
            prune.prune(shop.cache_dir)
    assert len(shop.stores()) == 1


def test_nothing_goes_while_somebody_caches(collection):
    shop = collection(one=2)
    manifest = cached(shop)
    os.unlink(shop.request().manifest_path)
    with lock.filling(shop.cache_dir), lock.filling(shop.cache_dir):
        with pytest.raises(UserError, match="a flanx cache is at work"):
            prune.prune(shop.cache_dir)
        assert prune.leftovers(shop.cache_dir)
    store.open(shop.cache_dir / manifest.entries[0].path)
    assert len(prune.prune(shop.cache_dir)) == 1


def test_what_is_no_cache_folder_is_refused(tmp_path):
    (tmp_path / "task" / "train-0123456789abcdef").mkdir(parents=True)
    with pytest.raises(UserError, match="is no cache folder"):
        prune.prune(tmp_path)
    assert os.listdir(tmp_path) == ["task"]


def test_the_command_lists_then_removes(collection, capsys):
    shop = collection(one=4)
    before = cached(shop).entries[0].path
    shop.write_rows("one", shop.words(5))
    cached(shop)
    command = ["cache", "--prune", "--cache_dir", str(shop.cache_dir)]
    assert cli.main([*command, "--dry_run"]) == 0
    said = capsys.readouterr()
    assert before in said.out
    assert "1 folders" in said.err
    assert "would be removed" in said.err
    assert before in shop.stores()
    assert cli.main(command) == 0
    assert before not in shop.stores()
    assert cli.main([*command, "--mixture", "x"]) == 2
    shutil.rmtree(shop.cache_dir)
    assert cli.main(command) == 2
