"""The command itself: help, unknown commands, exit statuses, and what may not be imported."""

import subprocess
import sys

import pytest

from flanx.cli import main as cli


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert f"  flanx {command}" in capsys.readouterr().out


def test_help_lists_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in cli.COMMANDS)


def test_unknown_command_names_the_nearest(capsys):
    assert cli.main(["trian"]) == 2
    assert capsys.readouterr().err == "flanx: no command 'trian'; did you mean 'train'?\n"


def test_user_errors_exit_with_two_and_one_line(capsys):
    assert cli.main(["train", "--gin_file=nowhere.gin"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("flanx train: no gin file 'nowhere.gin'")
    assert captured.err.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from flanx.cli.main import main; import flanx; main(['--help'])\n"
        "heavy = {'jax', 'numpy', 'tensorflow', 'seqio', 'gin', 'rich', 'pyarrow'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
