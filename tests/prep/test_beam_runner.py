"""The same stores from Beam's local runner as from the process pool."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from flanx.cli import main as cli
from flanx.errors import UserError
from flanx.prep import beam_runner, prepared, work_item
from flanx.prep.cache import cache
from flanx.prep.jobs import Job
from flanx.prep.progress import Progress

_DRIVER = """
import json, sys
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep import beam_runner, jobs
from flanx.prep.cache import cache

jobs._SPLIT = 256

if __name__ == "__main__":
    request = StoreRequest.from_json(json.loads(sys.argv[1]))
    run = beam_runner.on("FnApiRunner")
    try:
        cache([request], workers=3, run=run)
    except UserError as error:
        print(error)
        sys.exit(2)
"""


def on_beam(tmp_path, request):
    """Caches in a process of its own, where Beam's threads and warnings stay."""
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    return subprocess.run(
        [sys.executable, str(driver), json.dumps(request.to_json())],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )


def test_beam_makes_the_stores_that_processes_make(collection, tmp_path):
    pytest.importorskip("apache_beam")
    shop = collection(one=900, two=3, three=7)
    done = on_beam(tmp_path, shop.request())
    assert done.returncode == 0, done.stderr
    assert "cache: 3 of 3 tasks" in done.stderr
    there = prepared.ready(shop.request())
    request = shop.request(cache_dir=str(tmp_path / "here"))
    (here,) = cache([request], workers=0, progress=Progress())
    assert there.entries == here.entries
    for entry in here.entries:
        for name in ("tokens.arrow", "meta.json"):
            files = [folder / entry.path / name for folder in (shop.cache_dir, tmp_path / "here")]
            assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(entry.path for entry in there.entries) == shop.stores()
    assert len(os.listdir(shop.cache_dir / "manifests")) == 1

    with shop.data("two").open("a") as handle:
        handle.write("{not json\n")
    shop.write_rows("one", shop.words(30))
    done = on_beam(tmp_path, shop.request())
    assert done.returncode == 2
    assert f"task '{shop.name}.two.zs_noopt'" in done.stdout
    assert "the other tasks are kept" in done.stdout
    assert len([path for path in shop.stores() if ".one." in path]) == 2


def test_without_beam_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    assert cli.main(["cache", "--mixture", "x", "--runner", "DirectRunner"]) == 2
    assert "pip install 'flanx[beam]'" in capsys.readouterr().err


def test_options_without_a_runner_are_refused(capsys):
    assert cli.main(["cache", "--mixture", "x", "--beam_options=--a=b"]) == 2
    assert "name it with --runner" in capsys.readouterr().err


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A runner that ends well and writes nowhere that is seen from here."""
    monkeypatch.setattr(beam_runner, "_settings", lambda runner, options: None)
    monkeypatch.setattr(beam_runner, "_PATIENCE", 0.0)
    monkeypatch.setattr(beam_runner, "_POLL", 0.0)
    one = work_item.WorkItem("t", "train", {"inputs": 4}, "bytes", str(tmp_path))
    return one, [Job((one,), 1.0)]


def test_a_folder_that_is_not_shared_is_told(elsewhere, tmp_path, monkeypatch):
    one, jobs = elsewhere
    monkeypatch.setattr(beam_runner, "_pipeline", lambda *_: None)
    with pytest.raises(UserError, match="every worker share"):
        list(beam_runner.on("FlinkRunner")(jobs, 1))
    found = work_item.WorkResult(one, "t/train-k", {"bytes": 9})
    monkeypatch.setattr(
        beam_runner, "_pipeline", lambda settings, jobs, folder: beam_runner.leave(found, folder)
    )
    with pytest.raises(UserError, match="t/train-k is not to be seen here"):
        list(beam_runner.on("FlinkRunner")(jobs, 1))
    assert os.listdir(tmp_path / "manifests") == []


class _Canary:
    """Pickled, what writes a file when it is read."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return open, (str(self._path), "w")


def test_a_result_that_was_planted_runs_nothing(elsewhere, tmp_path, monkeypatch):
    one, jobs = elsewhere
    canary = tmp_path / "canary"

    def plant(settings, jobs, folder):
        (Path(folder) / beam_runner._file_of(one)).write_bytes(pickle.dumps(_Canary(canary)))

    monkeypatch.setattr(beam_runner, "_pipeline", plant)
    with pytest.raises(UserError, match="is no result of this flanx"):
        list(beam_runner.on("FlinkRunner")(jobs, 1))
    assert not canary.exists()


def test_a_result_comes_back_as_it_was_left(tmp_path):
    one = work_item.WorkItem("t", "train", {"inputs": 4}, "bytes", str(tmp_path))
    left = work_item.WorkResult(
        one, "t/x", {"bytes": 9, "tokens": {"inputs": 3}}, written=True, parts=2
    )
    beam_runner.leave(left, str(tmp_path))
    assert beam_runner._read(tmp_path / beam_runner._file_of(one), one) == left


def test_a_pipeline_that_fails_fails_here(elsewhere, monkeypatch):
    _, jobs = elsewhere

    def broken(*_):
        raise RuntimeError("no such project")

    monkeypatch.setattr(beam_runner, "_pipeline", broken)
    with pytest.raises(RuntimeError, match="no such project"):
        list(beam_runner.on("DataflowRunner")(jobs, 1))
