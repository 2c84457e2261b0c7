"""The wheel holds everything: engine, tasks, mixtures and gin files, and runs outside the checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What an install is made of. No list of git's: an archive, or a container without git, has the tests as well.
SOURCE = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "flanx", "tasks", "mixtures", "gin")
IGNORED = {"ignore": shutil.ignore_patterns("__pycache__", "*.egg-info")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name, **IGNORED if copy is shutil.copytree else {})
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("flanx-*.whl"))


def test_wheel_holds_every_module_and_gin_file(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    moved = {
        "flanx": "flanx",
        "tasks": "flanx/tasks",
        "mixtures": "flanx/mixtures",
        "gin": "flanx/gin",
    }
    for top, inside in moved.items():
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{inside}/{path.relative_to(ROOT / top)}" in names
    assert not any(name.startswith(("tasks/", "gin/", "mixtures/", "tests/")) for name in names)


def test_wheel_runs_outside_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import flanx, flanx.tasks, flanx.mixtures\n"
        f"assert flanx.__file__.startswith({str(site)!r}), flanx.__file__\n"
        f"assert list(flanx.tasks.__path__)[0].startswith({str(site)!r})\n"
        "from flanx.cli.main import main\n"
        "raise SystemExit(main(['train', '--gin_file=quickstart.gin', '--dry_run']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "# parameters: " in done.stdout
