"""Every gin file that ships builds, with nothing bound that nothing uses, and opens with a comment."""

import argparse

import pytest

from flanx.cli import gin_edge
from flanx.models.t5.config import T5Config
from flanx.resources import gin_folder
from flanx.sharding.config import MeshConfig
from flanx.training.config import TrainConfig
from flanx.training.optimizer import Adafactor
from flanx.training.schedules import Constant

FILES = sorted(str(path.relative_to(gin_folder())) for path in gin_folder().rglob("*.gin"))
EVALUATIONS = [name for name in FILES if name.endswith("_eval.gin")]
RECIPES = [
    name
    for name in FILES
    if (name.startswith("recipes/") or name == "quickstart.gin") and name not in EVALUATIONS
]
MODELS = [name for name in FILES if name.startswith("models/t5_1_1/")]
FLAGS = {
    "MODEL_DIR": "somewhere",
    "VOCABULARY": "spiece.model",
    "DATA_DIR": "data",
    "INITIAL_CHECKPOINT_PATH": "checkpoint_1100000",
}
# Table 22 of Chung et al. 2022.
FLAN_T5_STEPS = {"small": 98_000, "base": 84_000, "large": 64_000, "xl": 38_000, "xxl": 14_000}
FLAN_T5_SIZES = {"small": 76.96, "base": 247.58, "large": 783.15, "xl": 2849.8, "xxl": 11135.3}


def build(*files, **options):
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    words = [f"--gin_file={name}" for name in files]
    words += [f"--gin_binding={name}={value}" for name, value in FLAGS.items()]
    return gin_edge.build(TrainConfig, parser.parse_args(words), **options)


@pytest.mark.parametrize("name", FILES)
def test_opens_with_a_comment_and_dynamic_registration(name):
    lines = (gin_folder() / name).read_text().splitlines()
    assert lines[0].startswith("# ")
    code = [line for line in lines if line and not line.startswith("#")]
    assert code[0] == "from __gin__ import dynamic_registration"


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds(name):
    config = build(name)
    assert config.model_dir == "somewhere"
    assert config.evals
    assert "TrainConfig.train_steps" in gin_edge.operative_config()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_after_a_recipe_replaces_its_model(name):
    alone = {"tiny": 128, "small": 512, "base": 768, "large": 1024, "xl": 2048, "xxl": 4096}
    config = build("recipes/natural_instructions.gin", name)
    assert config.model.emb_dim == alone[name.split("/")[-1].removesuffix(".gin")]


@pytest.mark.parametrize("size", FLAN_T5_STEPS)
def test_flan_t5_is_the_published_recipe(size):
    config = build(f"recipes/flan_t5_{size}.gin")
    assert config.train_steps == FLAN_T5_STEPS[size]
    assert config.model.num_parameters() / 1e6 == pytest.approx(FLAN_T5_SIZES[size], rel=1e-4)
    assert (config.batch_size, config.model.dropout_rate) == (64, 0.05)
    assert config.data.feature_lengths == {"inputs": 2048, "targets": 512}
    assert config.data.packing
    assert config.optimizer == Adafactor()
    assert config.schedule == Constant(5e-4)
    assert config.initial_checkpoint_path == "checkpoint_1100000"
    assert config.restore_optimizer == "none"


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("data_parallel", MeshConfig()),
        ("fully_sharded", MeshConfig(parameters="fully_sharded")),
        ("tensor_parallel", MeshConfig(model=4)),
        ("fully_sharded_tensor_parallel", MeshConfig(model=4, parameters="fully_sharded")),
    ],
)
def test_a_mesh_after_a_recipe_replaces_its_mesh(name, mesh):
    assert build("recipes/flan_t5_xxl.gin").mesh == MeshConfig(parameters="fully_sharded")
    assert f"meshes/{name}.gin" in FILES
    assert build("recipes/flan_t5_xxl.gin", f"meshes/{name}.gin").mesh == mesh


def test_rules_by_a_flag():
    rules = '{"embed": ("replica", "data"), "vocab": None}'
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    words = ["--gin_file=recipes/flan_t5_xl.gin", f"--gin_binding=MeshConfig.rules={rules}"]
    words += [f"--gin_binding={name}={value}" for name, value in FLAGS.items()]
    config = gin_edge.build(TrainConfig, parser.parse_args(words))
    assert config.mesh.rules == {"embed": ("replica", "data"), "vocab": None}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_an_evaluation_takes_its_model_from_the_checkpoint_or_a_file(name):
    left_open = {"MIXTURE_OR_TASK_NAME": "", "TRAIN_STEPS": 1}
    model = T5Config(8, 1, 1, 1, 8)
    assert build(name, defaults={**left_open, "MODEL": model}).model == model
    config = build(name, "models/t5_1_1/xl.gin", defaults=left_open)
    assert config.model.emb_dim == 2048
    assert config.evals
