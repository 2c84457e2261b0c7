"""`flanx plan` as typed."""

import json

import pytest

from flanx.cli.main import main
from flanx.plan import topology

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
        (["--topology=h100:8", "--search_compiles=0"], "--search_compiles"),
        (["--topology=h100:7"], "BATCH_SIZE = 32 does not split"),
    ],
)
def test_mistakes_are_named(capsys, flags, words):
    assert main([*RUN, *flags]) == 2
    assert words in capsys.readouterr().err


def test_without_libtpu_one_line_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setattr(topology, "has_compiler", lambda: False)
    assert main([*RUN, "--topology=v4:8x8x8"]) == 2
    err = capsys.readouterr().err
    assert "pip install 'flanx[plan]'" in err
    assert err.count("\n") == 1
