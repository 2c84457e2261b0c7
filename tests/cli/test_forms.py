"""The commands on checkpoints of every form: a run's own, T5X's and Hugging Face's answer and score alike."""

import json
import shutil

import pytest

from flanx.cli.main import main

PROMPT = ["--prompt", "First letter of bee?"]
# What a checkpoint of another form cannot tell.
TOLD = ["--gin.VOCABULARY=bytes", "--import=toycli_tasks"]

EVALUATION = """
from __gin__ import dynamic_registration
from flanx.evaluation import suites
from flanx.training import config

include "runs/train.gin"

TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 6}
config.TrainConfig.evals = [@held_in/suites.EvalSuite()]
held_in/suites.EvalSuite.name = "held_in"
held_in/suites.EvalSuite.mixture = "toycli"
held_in/suites.EvalSuite.max_decode_length = 4
"""

MODEL = """
from __gin__ import dynamic_registration
from flanx.models.t5 import config as t5

MODEL = @t5.T5Config()
t5.T5Config.emb_dim = 16
t5.T5Config.num_heads = 2
t5.T5Config.head_dim = 8
t5.T5Config.num_encoder_layers = 1
t5.T5Config.num_decoder_layers = 1
t5.T5Config.mlp_dim = 32
t5.T5Config.vocab_size = 264
t5.T5Config.dtype = "float32"
"""


@pytest.fixture(scope="module")
def forms(trained_run, tmp_path_factory):
    """The finished run in T5X's and Hugging Face's form, and gin files for its suite and its model."""
    folder = tmp_path_factory.mktemp("forms")
    for form in ("t5x", "hf"):
        assert main(["convert", str(trained_run), str(folder / form), "--to", form]) == 0
    (folder / "evaluation.gin").write_text(EVALUATION)
    (folder / "model.gin").write_text(MODEL)
    return folder


@pytest.mark.parametrize("form", ["t5x", "hf"])
def test_scores_and_answers_are_the_runs(forms, form, trained_run, tmp_path):
    files = [f"--gin_file={forms / name}.gin" for name in ("evaluation", "model")]
    cache = f"--gin.CACHE_DIR={trained_run.parent / 'cache'}"
    command = ["eval", str(forms / form), *files, cache, *TOLD, f"--output={tmp_path}"]
    assert main(command) == 0
    (results,) = tmp_path.glob("results-*.json")
    ours = (trained_run / "metrics.jsonl").read_text().splitlines()
    (expected,) = [
        x["values"] for x in map(json.loads, ours) if (x["step"], x["split"]) == (3, "eval")
    ]
    assert json.loads(results.read_text()) == pytest.approx(expected, rel=1e-5)
    assert results.name == ("results-3.json" if form == "t5x" else "results-0.json")


def test_a_folder_answers_by_itself(forms, trained_run, capsys):
    """The network is read off the checkpoint, in bfloat16 unless a file says otherwise."""
    short = [*PROMPT, "--max_decode_length=4", "--max_input_length=32"]
    assert main(["infer", str(trained_run), *short]) == 0
    expected = capsys.readouterr().out
    cache = f"--gin.CACHE_DIR={trained_run.parent / 'cache'}"
    for form in ("t5x", "hf"):
        command = ["infer", str(forms / form), *short, *TOLD, cache]
        assert main([*command, f"--gin_file={forms / 'model.gin'}"]) == 0
        shown = capsys.readouterr()
        assert shown.out == expected
        assert "assumed" not in shown.err
        assert main(command) == 0
        assert ("assumed: mlp_activations" in capsys.readouterr().err) == (form == "t5x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no vocabulary is known for"),
        (["--gin.VOCABULARY=bytes"], "has no config.gin, so its run's suites and data are unknown"),
        (["--gin.VOCABULARY=bytes", "--step=4"], "step 4: "),
    ],
)
def test_what_a_folder_cannot_tell_is_asked_for(forms, arguments, message, capsys):
    command = "eval" if "--gin.VOCABULARY=bytes" in arguments else "infer"
    more = [] if command == "eval" else PROMPT
    assert main([command, str(forms / "t5x"), *arguments, *more]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_another_model_than_the_checkpoints_is_refused(forms, tmp_path, capsys):
    wrong = tmp_path / "wrong.gin"
    wrong.write_text(MODEL.replace("mlp_dim = 32", "mlp_dim = 48"))
    command = ["infer", str(forms / "hf"), f"--gin_file={wrong}", *PROMPT, *TOLD]
    assert main(command) == 2
    error = capsys.readouterr().err.strip()
    assert "6 arrays of another shape: encoder/layers_0/mlp/wi_0/kernel (16, 32) there" in error


# A folder as people have it: Natural Instructions' files, and reasoning sets.


@pytest.fixture(scope="module")
def flan_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flan")
    from flanx.tasks import niv2

    (name, *_) = [name for name, split, _ in niv2.tasks() if split == "train"]
    tasks = folder / "natural-instructions" / "tasks"
    tasks.mkdir(parents=True)
    positive = [{"input": f"p{i}", "output": "a", "explanation": "so"} for i in range(2)]
    task = {
        "Definition": ["Say a letter."],
        "Positive Examples": positive,
        "Negative Examples": [],
        "Instances": [{"id": f"i{i}", "input": f"word {i}", "output": ["a"]} for i in range(60)],
        "Categories": ["Misc."],
        "Source": ["made"],
    }
    (tasks / f"{name}.json").write_text(json.dumps(task))
    (folder / "cot_data").mkdir()
    lines = (f"What is {i} plus 1?\t{i + 1}\t{i} and 1 is {i + 1}." for i in range(60))
    (folder / "cot_data" / "gsm8k_train.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_the_flan_t5_recipe_runs(forms, flan_data, tmp_path, capsys):
    """A few steps of the recipe from a T5X checkpoint with its optimizer, smaller and on less data."""
    short = {"inputs": 160, "targets": 64}
    flags = {
        "MODEL_DIR": tmp_path / "run",
        "CACHE_DIR": tmp_path / "cache",
        "DATA_DIR": flan_data,
        "VOCABULARY": "bytes",
        "INITIAL_CHECKPOINT_PATH": forms / "t5x",
        "RESTORE_OPTIMIZER": "state",
        "TASK_FEATURE_LENGTHS": short,
        "TRAIN_STEPS": 3,
        "BATCH_SIZE": 8,
        "TrainConfig.evals": "()",
    }
    words = [f"--gin.{name}={value}" for name, value in flags.items()]
    files = ["--gin_file=recipes/flan_t5_small.gin", f"--gin_file={forms / 'model.gin'}"]
    assert main(["train", *files, *words]) == 0
    shown = capsys.readouterr()
    assert "going on from its step 3" in shown.out
    assert f"starting from {forms / 't5x'}" in shown.out
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (values,) = [line["values"] for line in lines if line["split"] == "train"]
    assert {name.split(".")[0] for name in values["task_loss"]} == {"niv2", "cot"}
    # Where it came from is refused before data is prepared, if it does not fit.
    shutil.rmtree(tmp_path / "run")
    words.append("--gin.T5Config.mlp_dim=40")
    assert main(["train", *files, *words]) == 2
    assert "arrays of another shape" in capsys.readouterr().err
