"""The wheel holds everything: engine, tasks, mixtures and gin files, and runs outside the checkout."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
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


def test_what_tfds_imports_without_requiring_it_is_required():
    """TFDS names importlib_resources for old Pythons alone, and imports it in any when it looks for a dataset."""
    tfds = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
    code = ast.walk(ast.parse((tfds / "core/dataset_builder.py").read_text()))
    imported = {alias.name for node in code if isinstance(node, ast.Import) for alias in node.names}
    brought = {
        re.match(r"[\w-]+", line)[0]
        for line in importlib.metadata.requires("tensorflow-datasets")
        if "extra ==" not in line and "python_version <" not in line
    }
    listed = re.findall(r'^    "([\w-]+)', (ROOT / "setup.py").read_text(), re.MULTILINE)
    assert {"importlib_resources"} & imported - brought <= set(listed)
    assert "importlib_resources" in listed
