"""Children of flanx's own: this flanx, whatever lies in the working directory, and the user's modules there."""

import os
import subprocess
import sys
import tempfile

import pytest

from flanx import child_process
from flanx.cli.main import main
from flanx.data.request import StoreRequest
from flanx.errors import UserError
from flanx.prep import prepared

TASKS = """
import flanx

flanx.register(
    "besides.a",
    source=flanx.Generated(lambda split, i: {"n": str(i)}, train=3),
    fields=lambda row: row,
    templates=[flanx.Template("{n}?", "{n}")],
)
"""


@pytest.fixture
def beside_a_clone(tmp_path, monkeypatch):
    """A working directory that holds a clone's layout, and the user's module."""
    for name in ("flanx/flanx/__init__.py", "flanx/tasks/__init__.py", "flanx/setup.py"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("raise ImportError('the wrong flanx')\n")
    (tmp_path / "besides.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def request_in(folder, **settings):
    return StoreRequest(
        mixture="besides.a",
        feature_lengths={"inputs": 16, "targets": 8},
        vocabulary="bytes",
        cache_dir=str(folder / "cache"),
        **settings,
    )


@pytest.mark.parametrize("entry", ["", None])
def test_a_clone_in_the_working_directory_is_not_taken_for_flanx(
    beside_a_clone, monkeypatch, entry
):
    there = str(beside_a_clone) if entry is None else entry
    monkeypatch.setattr(sys, "path", [there, *sys.path])
    request = request_in(beside_a_clone, imports=("besides",))
    (made,) = prepared.ensure([request], workers=0, progress=False)
    assert made.num_examples == 3


def test_workers_do_not_take_a_clone_for_flanx(beside_a_clone):
    code = (
        "import sys; sys.path.append('')\n"
        "from flanx.prep import server\n"
        "context = server.start()\n"
        "from flanx.digests import __name__ as name\n"
        "with context.Pool(1) as pool: print(pool.apply(sys.intern, (name,)))\n"
        "import flanx.prep.pool\n"
        "with context.Pool(1) as pool: print(pool.apply(flanx.prep.pool.worker_count, (3, [])))\n"
    )
    done = subprocess.run(
        [*child_process.command()[:2], "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**child_process.environment(), "PYTHONSAFEPATH": ""},
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["flanx.digests", "0"]


def test_a_childs_mistakes_are_signed_by_the_command_typed(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with child_process.signed("eval"), pytest.raises(UserError, match="^$"):
        prepared.ensure([request_in(tmp_path, imports=("nowhere_to_be",))], progress=False)
    assert capfd.readouterr().err.startswith("flanx eval: ")
    assert child_process.typed.get() is None
    assert main(["cache", "--mixture", "besidez.a", "--vocabulary", "bytes"]) == 2
    assert capfd.readouterr().err.startswith("flanx cache: ")


def test_a_killed_child_leaves_no_temporary_files_and_no_warnings(tmp_path, capfd, monkeypatch):
    (tmp_path / "kills.py").write_text(
        "import os, tempfile\n"
        "from flanx.prep import server\n"
        "context = server.start()\n"
        "lock = context.Lock()\n"
        "tempfile.mkdtemp()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(UserError, match="killed by signal 9"):
        prepared.ensure([request_in(tmp_path, imports=("kills",))], progress=False)
    assert os.listdir(temporary) == []
    assert capfd.readouterr().err == ""
