"""A run that the command line itself has trained, on tasks of a user's own module."""

import sys
from pathlib import Path

import pytest

TASKS = """
import flanx

WORDS = ["ant", "bee", "cat", "dog", "elk"]


def row(split, index):
    word = WORDS[index % 5]
    return {"word": word, "answer": word[0], "options": [w[0] for w in WORDS]}


flanx.register(
    "toycli.first",
    source=flanx.Generated(row, train=40, validation=11, test=6),
    fields=lambda r: r,
    templates=[flanx.Template("First letter of {word}?{options_}", "{answer}")],
    metrics=[flanx.metrics.accuracy, flanx.metrics.rank_accuracy],
    template_types={"zs_opt": 1.0, "zs_noopt": 1.0},
)
flanx.mixture("toycli", [flanx.Part("toycli.*")])
"""

GIN = """
from __gin__ import dynamic_registration
from flanx.evaluation import suites
from flanx.models.t5 import config as t5
from flanx.training import config

include "runs/train.gin"

MODEL = @t5.T5Config()
t5.T5Config.emb_dim = 16
t5.T5Config.num_heads = 2
t5.T5Config.head_dim = 8
t5.T5Config.num_encoder_layers = 1
t5.T5Config.num_decoder_layers = 1
t5.T5Config.mlp_dim = 32
t5.T5Config.vocab_size = 264
t5.T5Config.dtype = "float32"
MIXTURE_OR_TASK_NAME = "toycli"
TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 6}
VOCABULARY = "bytes"
TRAIN_STEPS = 3
BATCH_SIZE = 8
EVAL_PERIOD = 2
config.TrainConfig.evals = [@held_in/suites.EvalSuite()]
held_in/suites.EvalSuite.name = "held_in"
held_in/suites.EvalSuite.max_decode_length = 4
"""


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The MODEL_DIR of a finished run: steps 0, 2 and 3 evaluated, step 3 saved."""
    from flanx.cli.main import main

    folder = tmp_path_factory.mktemp("toycli")
    (folder / "toycli_tasks.py").write_text(TASKS)
    (folder / "toy.gin").write_text(GIN)
    sys.path.insert(0, str(folder))
    model_dir: Path = folder / "run"
    status = main(
        [
            "train",
            f"--gin_file={folder / 'toy.gin'}",
            f"--gin.MODEL_DIR={model_dir}",
            f"--gin.CACHE_DIR={folder / 'cache'}",
            "--import=toycli_tasks",
        ]
    )
    assert status == 0
    yield model_dir
    sys.path.remove(str(folder))
