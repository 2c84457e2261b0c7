"""`flanx lengths` and `flanx cache --report` from the command line, on a store that is ready."""

import json
import os
import re
import subprocess
import sys

import pytest

from flanx import registry
from flanx.cli import main as cli

TASKS = """
import flanx

flanx.register(
    "toylengths.echo",
    source=flanx.Generated(
        lambda split, index: {"word": "word " * (1 + index % 17), "answer": "a" * (1 + index % 5)},
        train=170, validation=5, test=5,
    ),
    fields=lambda row: row,
    templates=[flanx.Template("Say {word}", "{answer}")],
    template_types=("zs_noopt",),
    vocabulary="bytes",
)
"""

GIN = """
from __gin__ import dynamic_registration
from flanx.training import config

include "runs/train.gin"
include "models/t5_1_1/tiny.gin"

MIXTURE_OR_TASK_NAME = "toylengths.echo"
config.DataConfig.imports = ("toylengths_tasks",)
config.DataConfig.block_size = 200
BATCH_SIZE = 8
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a task module, a gin file, and the mixture cached at the lengths to measure at."""
    (tmp_path / "toylengths_tasks.py").write_text(TASKS)
    (tmp_path / "toy.gin").write_text(GIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLANX_PROGRESS", "off")
    with registry.isolated():
        yield tmp_path
    sys.modules.pop("toylengths_tasks", None)


def cached(inputs, targets, *more):
    lengths = f'{{"inputs": {inputs}, "targets": {targets}}}'
    gin = ["--gin_file=toy.gin", "--gin.CACHE_DIR=cache", "--gin.TRAIN_STEPS=30"]
    return cli.main(
        ["cache", *gin, f"--gin.TASK_FEATURE_LENGTHS={lengths}", "--workers", "0", *more]
    )


def test_recommends_lengths_as_a_gin_line_and_as_json(toy, capsys):
    assert cached(256, 64) == 0
    argv = ["lengths", "--gin_file=toy.gin", "--gin.CACHE_DIR=cache"]
    argv += ["--measure", "inputs=256,targets=64", "--multiple", "8", "--clip_rate", "0"]
    capsys.readouterr()
    assert cli.main([*argv, "--json", "--plot", "plots/out.png"]) == 0
    found = json.loads(capsys.readouterr().out)
    # The longest input: "Say " and 17 times "word ", stripped or not, and end-of-sequence.
    assert found["lengths"]["inputs"]["longest"] in (89, 90)
    assert found["lengths"]["targets"]["longest"] == 6
    best = found["recommended"]
    assert best["inputs_cut"] == best["targets_cut"] == 0
    assert best["wasted"] == min(one["wasted"] for one in found["best"] + found["compared"])
    assert found["gin"] == (
        f'TASK_FEATURE_LENGTHS = {{"inputs": {best["inputs"]}, "targets": {best["targets"]}}}'
    )
    assert found["same_examples_batch_size"] is None  # the gin file has no lengths of its own
    assert (toy / "plots/out.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert cli.main([*argv, "--no-pack"]) == 0
    assert 'TASK_FEATURE_LENGTHS = {"inputs": 96, "targets": 8}' in capsys.readouterr().out


def test_present_lengths_and_their_batch_are_compared(toy, capsys):
    """The store at its own lengths has cut nothing, so it is measured as it is."""
    assert cached(256, 64) == 0
    capsys.readouterr()
    argv = ["lengths", "--gin_file=toy.gin", "--gin.CACHE_DIR=cache", "--gin.TRAIN_STEPS=30"]
    argv += ['--gin.TASK_FEATURE_LENGTHS={"inputs": 256, "targets": 64}', "--multiple", "8"]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert re.search(r"^now +256 +64 ", out, re.MULTILINE)
    assert re.search(r"BATCH_SIZE = \d+ holds as many examples as 8 rows do now", out)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "say what to measure in one way"),
        (["x", "--gin_file=toy.gin"], "say what to measure in one way"),
        (["--gin_file=toy.gin", "--vocabulary=bytes"], "write --gin.VOCABULARY=VALUE"),
        (["x", "--clip_rate=1"], "--clip_rate 1"),
        (["x", "--measure=inputs=9"], "--measure inputs=9: write inputs=4096,targets=1024"),
        (["x", "--multiple=0"], "--multiple and --top"),
        (["toylengths.echo", "--gin.A=1"], "--gin.A=1 goes with --gin_file"),
    ],
)
def test_mistakes_are_told_in_one_line(toy, capsys, argv, says):
    assert cli.main(["lengths", *argv]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_report_after_caching_and_of_a_manifest_alone(toy, capsys):
    assert cached(96, 16, "--report") == 0
    (path,) = (toy / "cache/reports").iterdir()
    assert f"report: {path}" in capsys.readouterr().err
    assert "30 steps of 8 rows" in path.read_text()
    (manifest,) = (toy / "cache/manifests").glob("*.json")
    (toy / "toylengths_tasks.py").unlink()
    argv = ["cache", "--manifest", str(manifest), "--report", "out.html", "--steps", "7"]
    assert cli.main([*argv, "--batch_size", "16"]) == 0
    assert "7 steps of 16 rows" in (toy / "out.html").read_text()
    capsys.readouterr()
    assert cli.main(["lengths", "--manifest", str(manifest)]) == 0
    assert 'TASK_FEATURE_LENGTHS = {"inputs": ' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--manifest", "x.json"], "--manifest is for the report: add --report [FILE]"),
        (["--mixture", "x", "--steps", "3"], "--steps is for the report: add --report [FILE]"),
        (["--verify", "--report"], "--report of what?"),
        (["--manifest", "x.json", "--report"], "--manifest x.json: no such file"),
        (["--manifest", "toy.gin", "--report"], "toy.gin is not a manifest of this flanx"),
        (["--manifest", "x.json", "--report", "--mixture", "x"], "leave out --mixture"),
    ],
)
def test_mistakes_of_reports_are_told_in_one_line(toy, capsys, argv, says):
    assert cli.main(["cache", *argv]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_neither_needs_tensorflow(toy):
    assert cached(256, 64) == 0
    (manifest,) = (toy / "cache/manifests").glob("*.json")
    code = (
        "import sys; from flanx.cli.main import main; "
        "assert main(['lengths', '--gin_file=toy.gin', '--gin.CACHE_DIR=cache', '--json', "
        "'--measure', 'inputs=256,targets=64']) == 0; "
        f"assert main(['cache', '--manifest', {str(manifest)!r}, '--report', 'r.html']) == 0; "
        "assert not {'tensorflow', 'seqio', 'jax'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
