"""Every recipe runs: a few steps of a tiny model on made-up files in the real formats, from the forms it names.

One of a kind runs with every change, the others nightly.
"""

import json
import sys
from pathlib import Path

import jax
import pytest

from flanx.cli.main import main
from flanx.data.vocabulary import load
from flanx.models.t5.config import T5Config
from flanx.resources import gin_folder
from flanx.training import params_io

sys.path.insert(0, str(Path(__file__).parent / "interop"))
import checkpoints

VOCABULARY = "pkg://flanx.tasks/playground_parts/vocabulary.model"
CONFIG = T5Config(
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    vocab_size=load(VOCABULARY).size,
    dtype="float32",
)
MODEL = f"""# A model so small that a step takes milliseconds.
from __gin__ import dynamic_registration
from flanx.models.t5 import config as t5

MODEL = @t5.T5Config()
t5.T5Config.emb_dim = 16
t5.T5Config.num_heads = 2
t5.T5Config.head_dim = 8
t5.T5Config.num_encoder_layers = 1
t5.T5Config.num_decoder_layers = 1
t5.T5Config.mlp_dim = 32
t5.T5Config.vocab_size = {CONFIG.vocab_size}
t5.T5Config.dtype = "float32"
"""
SHORT = {"TASK_FEATURE_LENGTHS": {"inputs": 128, "targets": 32}, "BATCH_SIZE": 8}
TRAINED = ("cot", "natural_instructions")
FORMS = ("run", "export", "t5x", "hf")
# A size of the published recipe for each form that docs/checkpoints.md names, and the T5X form that T5's own come in.
FLAN_T5 = {"small": "t5x", "base": "hf", "large": "export", "xl": "run", "xxl": "t5x"}


def _data(folder):
    """One training and one test task of Natural Instructions, one reasoning set."""
    from flanx.tasks import niv2

    tasks = folder / "natural-instructions" / "tasks"
    tasks.mkdir(parents=True)
    positive = [{"input": f"p{i}", "output": "a", "explanation": "so"} for i in range(2)]
    for split, count in (("train", 100), ("test", 40)):
        # Every fourth question leaves no room for an exemplar.
        asked = [f"word {i}" + " and so on" * (30 * (i % 4 == 0)) for i in range(count)]
        instances = [
            {"id": f"i{i}", "input": text, "output": ["a"]} for i, text in enumerate(asked)
        ]
        task = {
            "Definition": ["Say a letter."],
            "Positive Examples": positive,
            "Negative Examples": [],
            "Instances": instances,
            "Categories": ["Misc."],
            "Source": ["made"],
        }
        name = next(name for name, its, _ in niv2.tasks() if its == split)
        (tasks / f"{name}.json").write_text(json.dumps(task))
    (folder / "cot_data").mkdir()
    lines = (f"What is {i} plus 1?\t{i + 1}\t{i} and 1 is {i + 1}." for i in range(60))
    (folder / "cot_data" / "gsm8k_train.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """Programs that run for a moment: the compiler's care would cost more than it saves."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Data, the tiny model's gin file, and the model exported, with random parameters."""
    folder = tmp_path_factory.mktemp("recipes")
    _data(folder / "data")
    (folder / "tiny.gin").write_text(MODEL)
    source = checkpoints.in_memory(CONFIG, checkpoints.random_arrays(CONFIG))
    words = load(VOCABULARY)
    facts = {
        "model": CONFIG.to_dict(),
        "vocabulary": {"spec": VOCABULARY, "fingerprint": words.fingerprint, "size": words.size},
        "feature_lengths": {"inputs": 64, "targets": 16},
    }
    params_io.export_params(folder / "export", checkpoints.params_of(source), "float32", facts)
    return folder


def _folder(world, form):
    """The model as a checkpoint of a form; a run is one that recipes/cot.gin has trained."""
    if not (world / form).exists():
        if form == "run":
            _train(world, "recipes/cot.gin", "run")
        else:
            command = ["convert", str(world / "export"), str(world / form), "--to", form]
            assert main(command) == 0
    return world / form


def _flags(folder, **more):
    flags = {"CACHE_DIR": folder / "cache", "DATA_DIR": folder / "data", **more}
    return [f"--gin.{name}={value}" for name, value in flags.items()]


def _train(folder, recipe, name, **more):
    files = [f"--gin_file={recipe}", f"--gin_file={folder / 'tiny.gin'}"]
    flags = {"MODEL_DIR": folder / name, "TRAIN_STEPS": 2, **SHORT, **more}
    if "VOCABULARY" not in flags:
        flags["VOCABULARY"] = VOCABULARY
    assert main(["train", *files, *_flags(folder, **flags)]) == 0
    return json.loads((folder / name / "summary.json").read_text())


def test_every_recipe_is_run_here():
    recipes = {path.stem for path in (gin_folder() / "recipes").glob("*.gin")}
    sizes = {f"flan_t5_{size}" for size in FLAN_T5}
    assert recipes == {*TRAINED, *sizes, "flan_t5_eval", "playground_base"}
    assert {path.stem for path in gin_folder().glob("*.gin")} == {"quickstart"}


@pytest.mark.parametrize(
    "form", [pytest.param(f, marks=() if f == "hf" else pytest.mark.nightly) for f in FORMS]
)
def test_flan_t5_eval_takes_the_vocabulary_of_each_form(world, form, tmp_path, capsys):
    told = {"VOCABULARY": VOCABULARY} if form == "t5x" else {}
    command = ["eval", str(_folder(world, form)), "--gin_file=recipes/flan_t5_eval.gin"]
    suites = ("niv2_zero_shot", "niv2_two_shot", "reasoning", "answer_only")
    lengths = {"TASK_FEATURE_LENGTHS": SHORT["TASK_FEATURE_LENGTHS"]}
    short = {f"{suite}/EvalSuite.max_decode_length": 4 for suite in suites}
    flags = _flags(world, **lengths, **short, **told)
    assert main([*command, *flags, f"--output={tmp_path}"]) == 0
    (results,) = tmp_path.glob("results-*.json")
    values = json.loads(results.read_text())
    assert all(f"{suite}/score" in values for suite in suites)
    # What no exemplar fits beside is counted, and is in no score.
    assert (values["niv2_zero_shot/examples"], values["niv2_two_shot/examples"]) == (40, 30)
    assert values["niv2_two_shot/left_out"] == 10
    shown = capsys.readouterr().out
    assert "left out" in shown


@pytest.mark.nightly
def test_natural_instructions_trains(world):
    found = _train(world, "recipes/natural_instructions.gin", "ni")
    assert [suite["name"] for suite in found["suites"]] == ["zero_shot", "two_shot"]
    assert found["suites"][1]["left_out"] == 10


@pytest.mark.nightly
def test_cot_trains(world):
    found = json.loads((_folder(world, "run") / "summary.json").read_text())
    assert [suite["name"] for suite in found["suites"]] == ["answer_only", "with_rationale"]


@pytest.mark.nightly
@pytest.mark.parametrize("size", FLAN_T5)
def test_flan_t5_trains_from_each_form(world, size, capsys):
    start = _folder(world, FLAN_T5[size])
    name = f"flan_t5_{size}"
    found = _train(world, f"recipes/{name}.gin", name, INITIAL_CHECKPOINT_PATH=start)
    assert f"starting from {start}" in capsys.readouterr().out
    assert {suite["name"] for suite in found["suites"]} == {
        "held_out_zero_shot",
        "held_out_two_shot",
        "held_in_reasoning",
    }


@pytest.mark.nightly
def test_playground_base_trains(world):
    flags = {"VOCABULARY": None, "statements/EvalSuite.max_examples": 4}
    flags["DataConfig.max_examples"] = 200
    found = _train(world, "recipes/playground_base.gin", "base", **flags)
    assert [suite["name"] for suite in found["suites"]] == ["statements"]


@pytest.mark.nightly
def test_quickstart_trains_from_the_shipped_model(tmp_path):
    flags = {
        "MODEL_DIR": tmp_path / "run",
        "CACHE_DIR": tmp_path / "cache",
        "NUM_TASKS": 4,
        "TRAIN_STEPS": 2,
        "held_in/EvalSuite.num_tasks": 4,
        "held_in/EvalSuite.max_examples": 2,
        "held_out/EvalSuite.num_tasks": 2,
        "held_out/EvalSuite.max_examples": 2,
    }
    words = [f"--gin.{name}={value}" for name, value in flags.items()]
    assert main(["train", "--gin_file=quickstart.gin", *words]) == 0
    found = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [suite["name"] for suite in found["suites"]] == ["held_in", "held_out"]
