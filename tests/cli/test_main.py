"""The command itself: help, unknown commands, exit statuses, and what may not be imported."""

import argparse
import errno
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flanx import registry, resources
from flanx.cli import main as cli


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert f"  flanx {command}" in capsys.readouterr().out


def _examples():
    """Every command line of every help text, as a shell would split it."""
    texts = {"main": cli.EPILOG}
    for command in cli.COMMANDS:
        module = importlib.import_module(f"flanx.cli.{command}")
        texts[command] = module.EXAMPLE
        texts[f"{command} actions"] = "".join(
            text for name, text in vars(module).items() if name.isupper() and isinstance(text, str)
        )
    lines = "\n".join(texts.values()).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines if line.startswith("  flanx ")]
    return list(dict.fromkeys(tuple(one[1:]) for one in words))


@pytest.mark.parametrize("argv", _examples(), ids=" ".join)
def test_examples_of_help_mean_something(argv):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    importlib.import_module(f"flanx.cli.{argv[0]}").add_arguments(parser)
    args = vars(parser.parse_args(cli._gin_flags_together(list(argv[1:]))))
    for file in args.get("gin_file") or ():
        assert (resources.gin_folder() / file).is_file()
    named = [args.get(name) for name in ("name", "glob", "mixture", "task", "tasks")]
    for name in filter(None, named):
        if not name.startswith("tickets."):  # what `flanx tasks new` is shown to make
            specs = registry.specs_of(name)
            if args.get("type"):
                assert args["type"] in [spec.type for spec in specs]
            split = args.get("split")
            assert split is None or any(split in spec.splits for spec in specs)


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in cli.COMMANDS)


def test_unknown_command_names_the_nearest(capsys):
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == "flanx: no command 'trian'; did you mean 'train'?\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["plan"], "flanx plan: the following arguments are required: --topology"),
        (["infer", "x", "--batch_size", "many"], "flanx infer: argument --batch_size: invalid int"),
    ],
)
def test_wrong_flags_are_one_line_too(argv, says, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    (line,) = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2
    assert line.startswith(says)
    assert line.endswith("--help'")


def test_user_errors_exit_with_two_and_one_line(capsys):
    assert cli.main(["train", "--gin_file=nowhere.gin"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("flanx train: no gin file 'nowhere.gin'")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (KeyboardInterrupt(), 75, "flanx train: interrupted; the same command goes on\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/x/metrics.jsonl"),
            1,
            "flanx train: the disk is full (runs/x/metrics.jsonl): make room there, and run the same command again\n",
        ),
    ],
)
def test_what_is_no_mistake_is_one_line_too(monkeypatch, capsys, error, status, says):
    def run(args):
        raise error

    monkeypatch.setattr(importlib.import_module("flanx.cli.train"), "run", run)
    assert cli.main(["train"]) == status
    assert capsys.readouterr().err == says


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from flanx.cli.main import main; import flanx; main(['--help'])\n"
        "heavy = {'jax', 'numpy', 'tensorflow', 'seqio', 'gin', 'rich', 'pyarrow'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FULL = Path("/dev/full")


def _to(stdout, *argv):
    """The command in a process of its own, with stdout buffered as in a shell's pipe."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        [sys.executable, "-m", "flanx", *argv],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "argv", [["--help"], ["tasks", "--help"], ["tasks", "list", "playground.reverse_words"]]
)
def test_a_full_disk_behind_stdout_is_one_line(argv):
    with FULL.open("w") as full:
        done = _to(full, *argv)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("flanx")
    assert "the disk is full" in line


@pytest.mark.parametrize("argv", [["--help"], ["tasks", "show", "playground.reverse_words"]])
def test_a_reader_that_went_away_is_no_error(argv):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = _to(writing, *argv)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
