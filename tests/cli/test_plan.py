"""`flanx plan` as typed."""

import json

import pytest

from flanx.cli.main import main
from flanx.plan import settings, topology

RUN = ["plan", "--gin_file=quickstart.gin", "--gin.BATCH_SIZE=32"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What the command sets for libtpu is taken back."""
    monkeypatch.setattr(topology, "prepare_environment", lambda: None)


def test_gpus_are_estimated(capsys):
    assert main([*RUN, "--topology=h200:8", "--price_per_chip_hour=2"]) == 0
    out = capsys.readouterr().out
    assert "on h200:8 (8 GPUs, 1 server), an estimate from shapes and shardings" in out
    assert "of 129.72 GiB that a program can have" in out
    assert "replica 1 x data 8 x model 1" in out
    assert " in money" in out


def test_what_does_not_fit_exits_3_and_names_the_mend(capsys):
    flags = ["--gin.BATCH_SIZE=262144", "--gin.TrainConfig.log_period=1", "--topology=h100:8"]
    assert main([*RUN[:2], *flags, "--json"]) == 3
    caught = capsys.readouterr()
    plan = json.loads(caught.out)
    assert not plan["memory"]["fits"]
    assert plan["memory"]["largest"][0]["what"] == "activations kept for the backward pass"
    assert plan["mend"].startswith("T5Config.remat = ")
    assert " would make it fit: " in plan["mend"]
    assert plan["compiled"] is False
    assert plan["mfu_bound"] < 1
    assert "looking for a setting that does" in caught.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--topology=v9:2x2"], "no chip 'v9'"),
        (["--topology=h100:8", "--price_per_chip_hour=-1"], "--price_per_chip_hour -1"),
        (["--topology=h100:8", "--price_per_chip_hour=nan"], "--price_per_chip_hour nan"),
        (["--topology=h100:8", "--search_compiles=0"], "must be at least 1"),
        (["--topology=h100:8", "--search", "--search_compiles=2"], "--search_compiles is for"),
        (["--topology=v5e-16", "--search_compiles=2"], "--search_compiles is for"),
        (["--topology=h100:7"], "BATCH_SIZE = 32 does not split"),
    ],
)
def test_mistakes_are_named(capsys, flags, words):
    assert main([*RUN, *flags]) == 2
    assert words in capsys.readouterr().err


def test_what_the_run_alone_needs_may_be_left_open(capsys, tmp_path):
    """A mixture, a folder, a checkpoint: none of them changes a step."""
    mine = tmp_path / "mine.gin"
    mine.write_text(
        "from __gin__ import dynamic_registration\n"
        'include "runs/train.gin"\ninclude "models/t5_1_1/small.gin"\n'
        'TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 32}\nTRAIN_STEPS = 10\n'
        'INITIAL_CHECKPOINT_PATH = %gin.REQUIRED\nRESTORE_OPTIMIZER = "state"\n'
    )
    flags = [f"--gin_file={mine}", "--gin.T5Config.num_encoder_layers=1"]
    assert main(["plan", *flags, "--gin.T5Config.dtype=float32", "--topology=h100:3"]) == 2
    assert "BATCH_SIZE = 64 does not split" in capsys.readouterr().err
    flags += ["--gin.BATCH_SIZE=66", "--gin.MeshConfig.parameters=fully_sharded"]
    assert main(["plan", *flags, "--gin.T5Config.dtype=float32", "--topology=h100:3"]) == 0
    out = capsys.readouterr().out
    assert "note         MeshConfig: data=3 does not divide the model's embed (512)" in out
    assert "note         activations are float32" in out


def test_a_search_in_which_nothing_fits_exits_3(capsys, monkeypatch):
    monkeypatch.setattr(topology, "usable_bytes", lambda chip: 1000)
    monkeypatch.setattr(settings, "every", lambda config, where: iter([config]))
    assert main([*RUN, "--topology=h100:8", "--search"]) == 3
    assert "no setting fits on h100:8" in capsys.readouterr().out


def test_without_libtpu_one_line_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(topology, "has_compiler", lambda: False)
    assert main([*RUN, "--topology=v4:8x8x8"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'flanx[plan]'" in err
    assert err.count("\n") == 1
