"""A SeqIO mixture that knows nothing of flanx is listed, shown, cached, trained on and evaluated by its name."""

import json
import os
import subprocess
import sys

THEIRS = """
import functools

import seqio
import tensorflow as tf

WORDS = [f"word{i}" for i in range(40)]


def rows(split, shuffle_files, seed=None, *, step):
    pairs = [(f"after {i}", f"comes {i + step}") for i in range(40)]
    inputs, targets = zip(*pairs)
    return tf.data.Dataset.from_tensor_slices({"inputs": list(inputs), "targets": list(targets)})


FEATURES = {name: seqio.Feature(seqio.ByteVocabulary(), add_eos=True) for name in ("inputs", "targets")}
for name, step in (("one", 1), ("two", 2)):
    seqio.TaskRegistry.add(
        f"their_{name}",
        source=seqio.FunctionDataSource(functools.partial(rows, step=step), splits=("train", "validation")),
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
        output_features=FEATURES,
    )
seqio.MixtureRegistry.add("theirs", [("their_one", 3.0), ("their_two", 1.0)])
"""

RUN = """
from __gin__ import dynamic_registration
from flanx.evaluation import suites
from flanx.models.t5 import config as t5
from flanx.training import config
include "runs/train.gin"
MODEL = @t5.T5Config()
t5.T5Config:
  vocab_size = 384
  emb_dim = 16
  num_heads = 2
  head_dim = 8
  num_encoder_layers = 1
  num_decoder_layers = 1
  mlp_dim = 32
  dtype = "float32"
MIXTURE_OR_TASK_NAME = "theirs"
TASK_FEATURE_LENGTHS = {"inputs": 24, "targets": 16}
TRAIN_STEPS = 3
BATCH_SIZE = 8
config.TrainConfig.log_period = 1
config.TrainConfig.eval_at_start = False
config.TrainConfig.evals = (@validation/suites.EvalSuite(),)
validation/suites.EvalSuite.name = "validation"
"""


def flanx(folder, *words):
    done = subprocess.run(
        [sys.executable, "-m", "flanx", *words],
        cwd=folder,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_mixture_of_others(tmp_path):
    (tmp_path / "their_tasks.py").write_text(THEIRS)
    (tmp_path / "run.gin").write_text(RUN)
    flags = ("--import", "their_tasks")
    listed = flanx(tmp_path, "tasks", "list", "their*", *flags)
    assert "their_one" in listed
    assert "after 0" in flanx(tmp_path, "tasks", "show", "their_two", "-n", "1", *flags)
    run = (*flags, "--gin_file=run.gin", "--gin.MODEL_DIR=run", "--gin.CACHE_DIR=store")
    flanx(tmp_path, "train", *run)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = {task for line in lines for task in line["values"].get("task_loss", ())}
    assert losses == {"their_one", "their_two"}
    (evaluated,) = [line["values"] for line in lines if line["split"] == "eval"]
    assert {f"validation/their_{name}/loss" for name in ("one", "two")} <= set(evaluated)
    manifest = json.loads(
        next((tmp_path / "store/manifests").glob("theirs-train-*.json")).read_text()
    )
    assert {entry["task"]: entry["rate"] for entry in manifest["entries"]} == {
        "their_one": 3.0,
        "their_two": 1.0,
    }
