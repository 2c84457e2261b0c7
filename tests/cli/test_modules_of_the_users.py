"""Modules of the user's: on the command line, in gin files, and what is said where they cannot be imported."""

import subprocess
import sys

import pytest

from flanx import child_process
from flanx.cli.main import main

MODULE = """
import flanx

flanx.register(
    "{name}.a",
    source=flanx.Generated(lambda split, i: {{"n": str(i)}}, train=3),
    fields=lambda row: row,
    templates=[flanx.Template("{{n}}?", "{{n}}")],
    template_types=("zs_noopt",),
)
"""
GIN = """
from __gin__ import dynamic_registration
{imports}
include "runs/train.gin"
include "models/t5_1_1/small.gin"
MODEL_DIR = "run"
MIXTURE_OR_TASK_NAME = "{mixture}.a"
TASK_FEATURE_LENGTHS = {{"inputs": 16, "targets": 8}}
VOCABULARY = "bytes"
TRAIN_STEPS = 1
CACHE_DIR = "cache"
{more}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "imports", "more"),
    [
        ("gin_own", "import gin_own", ""),
        ("gin_macro", "", 'MIXTURE_OR_TASK_MODULE = "gin_macro"'),
        ("gin_pair", "", 'MIXTURE_OR_TASK_MODULE = ("gin_pair",)'),
    ],
)
def test_a_gin_file_finds_the_users_module_in_the_working_directory(here, name, imports, more):
    (here / f"{name}.py").write_text(MODULE.format(name=name))
    (here / "a.gin").write_text(GIN.format(imports=imports, mixture=name, more=more))
    code = "import sys; from flanx.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "cache", "--gin_file=a.gin", "--workers=0"],
        capture_output=True,
        text=True,
        check=False,
        env={**child_process.environment(), "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert f"{name}.a train: 3 examples" in done.stderr


def test_the_command_lines_modules_join_those_of_the_gin_file(here, capsys):
    for name in ("joined_one", "joined_two"):
        (here / f"{name}.py").write_text(MODULE.format(name=name))
    more = 'MIXTURE_OR_TASK_MODULE = "joined_one"'
    (here / "a.gin").write_text(GIN.format(imports="", mixture="joined_two", more=more))
    assert main(["cache", "--gin_file=a.gin", "--import=joined_two", "--dry_run"]) == 0
    said = capsys.readouterr().out
    assert "joined_one" in said
    assert "joined_two" in said


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("tasks_of_mine.py", ["write tasks_of_mine"]),
        ("inner/deep.py", ["write inner.deep"]),
        ("../elsewhere.py", ["write elsewhere", "with .. on PYTHONPATH"]),
        ("task_of_mine", ["no such module in", "'tasks_of_mine'"]),
        ("wrong_syntax", ["wrong_syntax.py:2", "SyntaxError"]),
        ("wrong_call", ["wrong_call.py:2", "'templates'"]),
        ("wrong_inside", ["wrong_inside.py:3", "KeyError"]),
        ("leaves", ["leaves.py:2", "ends the program"]),
        ("wrong_rate", ["wrong_rate.py:2", "rate"]),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(here, capsys, asked, words):
    files = {
        "tasks_of_mine": "",
        "wrong_syntax": "a = 1\ndef f(:\n",
        "wrong_call": "import flanx\nflanx.register('x.y', template=[])\n",
        "wrong_inside": "def f():\n\n    return {}['a']\nf()\n",
        "leaves": "import sys\nsys.exit(0)\n",
        "wrong_rate": "import flanx\nflanx.Part('a.*', rate=float('inf'))\n",
    }
    for name, text in files.items():
        (here / f"{name}.py").write_text(text)
    assert main(["tasks", "list", "--import", asked]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("flanx tasks: --import ")
    for word in words:
        assert word in said


def test_a_gin_files_module_that_fails_is_named_with_both_lines(here, capsys):
    (here / "failing_one.py").write_text("a = 1\nb = a / 0\n")
    (here / "a.gin").write_text(
        GIN.format(imports="import failing_one", mixture="failing_one", more="")
    )
    assert main(["cache", "--gin_file=a.gin"]) == 2
    said = capsys.readouterr().err
    assert "a.gin:3" in said
    assert "failing_one.py:2" in said
