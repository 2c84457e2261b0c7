"""Files and flags become one config object, and every mistake one line."""

import argparse

import pytest

from flanx.cli import gin_edge
from flanx.cli.main import _gin_flags_together
from flanx.errors import UserError
from flanx.training.config import TrainConfig

RUN = """
from __gin__ import dynamic_registration
from flanx.evaluation import suites
from flanx.models.t5 import config as t5
from flanx.training import config
include "runs/train.gin"
MODEL = @t5.T5Config()
t5.T5Config:
  emb_dim = 16
  num_heads = 2
  num_encoder_layers = 1
  num_decoder_layers = 1
  mlp_dim = 32
MIXTURE_OR_TASK_NAME = "some.mixture"
TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 24}
TRAIN_STEPS = 10
config.TrainConfig.evals = [@held_in/suites.EvalSuite(), @held_out/suites.EvalSuite()]
held_in/suites.EvalSuite.name = "held_in"
held_out/suites.EvalSuite.name = "held_out"
held_out/suites.EvalSuite.mixture = "other"
"""


@pytest.fixture
def run_gin(tmp_path):
    path = tmp_path / "run.gin"
    path.write_text(RUN)
    return str(path)


def build(*flags, **kwargs):
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    args = parser.parse_args(_gin_flags_together([str(flag) for flag in flags]))
    return gin_edge.build(TrainConfig, args, **kwargs)


def message(*flags):
    with pytest.raises(UserError) as caught:
        build(*flags)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_builds_the_whole_config(run_gin):
    config = build(f"--gin_file={run_gin}", "--gin.MODEL_DIR=/tmp/some/run", "--gin.Z_LOSS=0.5")
    assert config.model_dir == "/tmp/some/run"
    assert config.train_steps == 10
    assert config.model.emb_dim == 16
    assert config.loss.z_loss == 0.5
    assert config.data.feature_lengths == {"inputs": 64, "targets": 24}
    assert [(s.name, s.mixture) for s in config.evals] == [("held_in", None), ("held_out", "other")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("word", "word"),
        ("a/b-c.model", "a/b-c.model"),
        ("pkg://flanx.tasks/x", "pkg://flanx.tasks/x"),
        ("niv2.*.zs_opt", "niv2.*.zs_opt"),
        ('"quoted"', "quoted"),
        ("None", None),
        ("%MIXTURE_OR_TASK_NAME", "some.mixture"),
    ],
)
def test_a_bare_word_or_path_is_a_string(run_gin, value, expected):
    config = build(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", f"--gin.VOCABULARY={value}")
    assert config.data.vocabulary == expected


def test_imports_reach_the_data_config(run_gin):
    config = build(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", "--import", "a.b", "--import", "c")
    assert config.data.imports == ("a.b", "c")


def test_operative_config_builds_the_same_again(run_gin, tmp_path):
    first = build(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", "--gin.BATCH_SIZE=7")
    again = tmp_path / "config.gin"
    again.write_text(gin_edge.operative_config())
    assert build(f"--gin_file={again}") == first


def test_defaults_fill_only_what_is_unset(run_gin):
    defaults = {"MODEL_DIR": "fallback"}
    assert build(f"--gin_file={run_gin}", defaults=defaults).model_dir == "fallback"
    given = build(f"--gin_file={run_gin}", "--gin.MODEL_DIR=mine", defaults=defaults)
    assert given.model_dir == "mine"


def test_macro_left_unset_names_the_flag(run_gin):
    text = message(f"--gin_file={run_gin}")
    assert text.startswith("MODEL_DIR is not set (")
    assert "train.gin:" in text
    assert text.endswith("add --gin.MODEL_DIR=VALUE")


def test_macro_never_defined(run_gin):
    text = message(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", "--gin.BATCH_SIZE=%BATCH_SZIE")
    assert text == (
        "%BATCH_SZIE is used but never set; add --gin.BATCH_SZIE=VALUE; did you mean 'BATCH_SIZE'?"
    )


def test_misspelt_macro_names_the_nearest(run_gin):
    text = message(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", "--gin.BATCH_SZIE=3")
    assert text == "the command line: nothing uses BATCH_SZIE; did you mean 'BATCH_SIZE'?"


def test_misspelt_macro_in_a_file_names_the_line(run_gin, tmp_path):
    other = tmp_path / "other.gin"
    other.write_text("RANDOM_SEED = 1\nTRAIN_STPES = 3\n")
    text = message(f"--gin_file={run_gin}", f"--gin_file={other}", "--gin.MODEL_DIR=x")
    assert text == f"{other}:2: nothing uses TRAIN_STPES; did you mean 'TRAIN_STEPS'?"


def test_binding_of_an_object_that_is_not_part_of_the_run(run_gin, tmp_path):
    other = tmp_path / "other.gin"
    other.write_text(
        "from __gin__ import dynamic_registration\n"
        "from flanx.training import optimizer\n"
        "optimizer.AdamW.b1 = 0.5\n"
    )
    text = message(f"--gin_file={run_gin}", f"--gin_file={other}", "--gin.MODEL_DIR=x")
    assert text.startswith(f"{other}:3: nothing uses optimizer.AdamW.b1")


def test_a_file_macro_overridden_by_a_flag_is_no_mistake(run_gin):
    config = build(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", "--gin.TrainConfig.train_steps=3")
    assert config.train_steps == 3


def test_misspelt_setting_names_the_nearest(run_gin):
    flag = "--gin.config.TrainConfig.trian_steps=3"
    text = message(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", flag)
    assert text == (
        "the command line: config.TrainConfig has no setting 'trian_steps'; "
        "did you mean 'train_steps'?"
    )


def test_misspelt_class_names_the_nearest(run_gin):
    text = message(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", "--gin.TrainConfg.train_steps=3")
    assert text.endswith("nothing to configure is named 'TrainConfg'; did you mean 'TrainConfig'?")


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 3\ny = = 4\n", 2, "not gin"),
        (
            "from __gin__ import dynamic_registration\nfrom flanx.trainig import config\n",
            2,
            "No module named 'flanx.trainig'",
        ),
        (
            "from __gin__ import dynamic_registration\nfrom flanx.training import config\n"
            "config.TrianConfig.x = 3\n",
            3,
            "did you mean 'TrainConfig'?",
        ),
    ],
)
def test_mistakes_in_a_file_name_its_line(run_gin, tmp_path, text, line, says):
    bad = tmp_path / "bad.gin"
    bad.write_text(text)
    said = message(f"--gin_file={run_gin}", f"--gin_file={bad}", "--gin.MODEL_DIR=x")
    assert said.startswith(f"{bad}:{line}: ")
    assert says in said


def test_text_without_quotes_in_a_file(run_gin, tmp_path):
    bad = tmp_path / "bad.gin"
    bad.write_text("MODEL_DIR = runs/z\n")
    said = message(f"--gin_file={run_gin}", f"--gin_file={bad}")
    assert said == f"{bad}:1: text needs quotes: runs ..."


def test_missing_file_names_the_nearest_shipped_one():
    assert message("--gin_file=runs/trian.gin").endswith("did you mean 'runs/train.gin'?")


def test_no_file_at_all():
    assert message().startswith("no configuration: give --gin_file=FILE")


def test_flag_without_value(run_gin):
    text = message(f"--gin_file={run_gin}", "--gin.RANDOM_SEED")
    assert text == "--gin.RANDOM_SEED: no value; write --gin.RANDOM_SEED=VALUE"


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("BATCH_SIZE=eight", "TrainConfig.batch_size is 'eight': give a whole number"),
        ("TRAIN_STEPS=1e3", "TrainConfig.train_steps is 1000.0: give a whole number"),
        ("T5Config.emb_dim=big", "T5Config.emb_dim is 'big': give a whole number"),
        (
            "LOSS_NORMALIZING_FACTOR=NUM_REAL_TARGET_TOKENS",
            "LossConfig.normalizing_factor is 'NUM_REAL_TARGET_TOKENS': give a number or None",
        ),
        (
            'TASK_FEATURE_LENGTHS={"inputs": "long"}',
            "DataConfig.feature_lengths is {'inputs': 'long'}: give a dict, each value a whole number",
        ),
        ("OPTIMIZER=adam", "TrainConfig.optimizer is 'adam': give @Adafactor() or @AdamW()"),
        (
            "TEMPLATE_TYPES=zs_opt",
            "DataConfig.template_types is 'zs_opt': give a dict, each value a number or a tuple, "
            "each item text or None",
        ),
    ],
)
def test_a_value_of_another_type_is_named(run_gin, flag, says):
    assert message(f"--gin_file={run_gin}", "--gin.MODEL_DIR=x", f"--gin.{flag}") == says


def settings(tmp_path, *flags):
    file = tmp_path / "run.gin"
    if not file.exists():
        file.write_text(SMALL)
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    words = [w for flag in flags for w in ("--gin_binding", flag)]
    return gin_edge.build(TrainConfig, parser.parse_args([f"--gin_file={file}", *words]))


SMALL = """
include "runs/train.gin"
include "models/t5_1_1/small.gin"
MODEL_DIR = "run"
MIXTURE_OR_TASK_NAME = "playground"
TASK_FEATURE_LENGTHS = {"inputs": 16, "targets": 8}
TRAIN_STEPS = 1
"""


@pytest.mark.parametrize("text", ["2024", "1e5", "True", "None", "007", "runs/2024"])
def test_a_bare_flag_of_a_text_setting_is_text(tmp_path, text):
    assert settings(tmp_path, f"MODEL_DIR={text}").model_dir == text
    assert settings(tmp_path, f"TrainConfig.model_dir={text}").model_dir == text


def test_other_bare_flags_keep_their_type(tmp_path):
    made = settings(
        tmp_path,
        "TRAIN_STEPS=7",
        "INITIAL_CHECKPOINT_PATH=None",
        "DATA_DIR=2024",
        "DataConfig.packing=False",
    )
    assert made.train_steps == 7
    assert made.initial_checkpoint_path is None
    assert made.data.data_dir == "2024"
    assert made.data.packing is False


@pytest.mark.parametrize(
    "name", ["MODEL_DIR", "CACHE_DIR", "DATA_DIR", "INITIAL_CHECKPOINT_PATH", "VOCABULARY"]
)
@pytest.mark.parametrize("value", ["", "''", "' '"])
def test_an_empty_path_is_refused_by_its_name(tmp_path, name, value):
    with pytest.raises(UserError, match=f"{name}.* empty"):
        settings(tmp_path, f"{name}={value}")


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path):
    (tmp_path / "run.gin").write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert settings(tmp_path).train_steps == 1


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"A = 1\n# \xe9t\xe9\n", "run.gin:2: not UTF-8"),
        (b"A = 1\nB = (1,\n    [2, 3],\nC = 4\n", r"run.gin:2: .*'\(' is not closed"),
        (b"A = 1\nB = {'a': [1, 2}\n", "run.gin:2"),
        (b"A = 1\nB = '''text\n\n", "run.gin:2: .*string"),
    ],
)
def test_unreadable_gin_is_named_by_file_and_line(tmp_path, content, where):
    (tmp_path / "run.gin").write_bytes(content)
    with pytest.raises(UserError, match=where):
        settings(tmp_path)
