"""Every gin file that ships builds, with nothing bound that nothing uses, and opens with a comment."""

import argparse

import pytest

from flanx.cli import gin_edge
from flanx.resources import gin_folder
from flanx.training.config import TrainConfig

FILES = sorted(str(path.relative_to(gin_folder())) for path in gin_folder().rglob("*.gin"))
RECIPES = [name for name in FILES if name.startswith("recipes/") or name == "quickstart.gin"]
MODELS = [name for name in FILES if name.startswith("models/t5_1_1/")]
FLAGS = {"MODEL_DIR": "somewhere", "VOCABULARY": "spiece.model", "DATA_DIR": "data"}


def build(*files):
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    words = [f"--gin_file={name}" for name in files]
    words += [f"--gin_binding={name}={value}" for name, value in FLAGS.items()]
    return gin_edge.build(TrainConfig, parser.parse_args(words))


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
