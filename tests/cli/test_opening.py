"""Opening a run: whose compiled programs are used."""

import argparse
from types import SimpleNamespace

import pytest

from flanx.cli import gin_edge, opening
from flanx.cli.main import _gin_flags_together


def _folder(*flags, compile_cache=None, cache_dir="run/cache"):
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    config = SimpleNamespace(compile_cache=compile_cache, data=SimpleNamespace(cache_dir=cache_dir))
    return opening.compiled_programs(parser.parse_args(_gin_flags_together(list(flags))), config)


@pytest.mark.parametrize("compile_cache", [None, "run/xla"])
def test_a_run_does_not_choose_the_folder_of_compiled_programs(monkeypatch, compile_cache):
    """They are machine code: a folder that comes with a run could hold any."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/mine")
    assert _folder(compile_cache=compile_cache) == "/mine/flanx/xla"


def test_the_command_line_does(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "/mine")
    (tmp_path / "my.gin").write_text("CACHE_DIR = 'typed'\n")
    assert _folder("--gin.CACHE_DIR=typed", cache_dir="typed") == "typed/xla"
    assert _folder(f"--gin_file={tmp_path / 'my.gin'}", cache_dir="typed") == "typed/xla"
    flag = "--gin.config.TrainConfig.compile_cache=typed"
    assert _folder(flag, compile_cache="typed") == "typed"
    (tmp_path / "my.gin").write_text("config.TrainConfig.compile_cache = 'typed'\n")
    assert _folder(f"--gin_file={tmp_path / 'my.gin'}", compile_cache="typed") == "typed"
    assert _folder(compile_cache="") == ""  # none is always right
