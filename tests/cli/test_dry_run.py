"""`flanx train --dry_run` refuses what the start refuses, with the same words and status."""

import pytest

from flanx.cli.main import main

MISTAKES = {
    "mixture": ("--gin.MIXTURE_OR_TASK_NAME=playgroud", "playgroud"),
    "import": ("--import=no_such_module", "no_such_module"),
    "template type": ("--gin.TEMPLATE_TYPES=('zs_op',)", "zs_op"),
    "checkpoint": ("--gin.INITIAL_CHECKPOINT_PATH=nowhere", "nowhere"),
    "NUM_TASKS": ("--gin.NUM_TASKS=9999", "9999"),
    "vocabulary": ("--gin.VOCABULARY=no.model", "no.model"),
    "mesh": ("--gin.MeshConfig.model=7", "7"),
    "microbatches": ("--gin.TrainConfig.microbatches=5", "microbatch"),
    "lengths": ("--gin.TASK_FEATURE_LENGTHS={'inputs': 0, 'targets': 8}", "length"),
    "MODEL_DIR": ("--gin.MODEL_DIR=afile/run", "afile"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_dry_run_refuses_as_the_start_does(mistake, tmp_path, monkeypatch, capfd):
    flag, word = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").touch()
    lines = []
    monkeypatch.setenv("HOME", str(tmp_path))
    for more in ([], ["--dry_run"]):
        command = ["train", "--gin_file=quickstart.gin", "--gin.MODEL_DIR=model", flag, *more]
        assert main(command) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert word in line
        lines.append(line.partition(": ")[2])
    assert lines[0] == lines[1]
