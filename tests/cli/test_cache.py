"""What `flanx cache` takes and says; the work itself is tested with flanx.prep."""

import json

import pytest

from flanx.cli import main as cli

GIN = "--gin_file=quickstart.gin"
TASK = "playground.reverse_words.zs_noopt"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "say what to cache in one way"),
        ([GIN, "--mixture", "x"], "say what to cache in one way"),
        ([GIN, "--data_dir", "x"], "with a gin file write --gin.DATA_DIR=VALUE"),
        ([GIN, "--cache_dir", "x"], "with a gin file write --gin.CACHE_DIR=VALUE"),
        ([GIN, "--vocabulary", "x"], "with a gin file write --gin.VOCABULARY=VALUE"),
        ([GIN, "--split", "test"], "with a gin file write --gin.DataConfig.split=VALUE"),
        ([GIN, "--feature_lengths", "inputs=9,targets=9"], "--gin.TASK_FEATURE_LENGTHS=VALUE"),
        (["--requests", "x", "--split", "test"], "--split goes with --mixture"),
        (["--verify", "--force"], "--force makes the stores of a mixture again"),
        (["--mixture", "x", "--beam_options=--a=1"], "name it with --runner"),
        (["--mixture", TASK, "--cache_dir", "gs://bucket/x"], "CACHE_DIR gs://bucket/x: token"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, capsys, argv, says):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cache", *argv]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_summary_tells_requests_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FLANX_PROGRESS", "off")
    common = {
        "mixture": "playground.reverse_words",
        "feature_lengths": {"inputs": 256, "targets": 24},
        "cache_dir": str(tmp_path / "cache"),
        "split": "validation",
        "max_examples": 3,
    }
    requests = [
        {**common, "template_types": ["zs_noopt"]},
        {**common, "template_types": ["fs_noopt"]},
    ]
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    argv = ["cache", "--requests", str(tmp_path / "requests.json"), "--workers", "0"]
    assert cli.main(argv) == 0
    assert capsys.readouterr().err.splitlines() == [
        "playground.reverse_words validation (zs_noopt): 3 examples of 1 task",
        "playground.reverse_words validation (fs_noopt): 3 examples of 1 task",
    ]
