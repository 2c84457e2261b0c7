"""The sizes of decoders that ship: exact counts, PaLM's as published, the others' as transformers makes them."""

import argparse
from pathlib import Path

import pytest

from flanx import models
from flanx.cli import gin_edge
from flanx.interop import hf
from flanx.interop.hf import decoder_settings
from flanx.resources import gin_folder

# Of the checkpoints on Hugging Face, a tied projection counted once.
COUNTS = {
    "palm/8b": 8_632_012_800,
    "palm/62b": 62_495_662_080,
    "palm/540b": 540_356_474_880,
    "palm/tiny": 5_063_296,
    "llama/llama2_7b": 6_738_415_616,
    "llama/llama3_1_8b": 8_030_261_248,
    "llama/llama3_2_1b": 1_235_814_400,
    "llama/tiny": 8_950_912,
    "mistral/7b_v0_1": 7_241_732_096,
    "mistral/nemo_12b": 12_247_782_400,
    "mistral/tiny": 8_950_912,
    "qwen/qwen2_5_0_5b": 494_032_768,
    "qwen/qwen3_0_6b": 596_049_920,
    "qwen/qwen3_1_7b": 1_720_574_976,
    "qwen/tiny": 4_900_224,
    "gemma/gemma_2b": 2_506_172_416,
    "gemma/gemma2_2b": 2_614_341_888,
    "gemma/gemma3_1b": 999_885_952,
    "gemma/tiny": 5_246_464,
    "olmo/olmo2_1b": 1_484_916_736,
    "olmo/olmo2_7b": 7_298_617_344,
    "olmo/tiny": 9_017_472,
}
PALM = {"8b": 8.63, "62b": 62.50, "540b": 540.35}  # billions, arXiv 2204.02311, table 1
FAMILIES = sorted({name.partition("/")[0] for name in COUNTS})


def config_of(name: str):
    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    return gin_edge.build_model(parser.parse_args([f"--gin_file=models/{name}.gin"]))


def kind_of(name: str, config) -> str:
    """Hugging Face's model_type of a preset."""
    known = "mistral" if name.startswith("mistral") else None
    return hf.of_config(config).model_type(config, known)


def test_every_file_is_counted():
    files = (f for family in FAMILIES for f in (gin_folder() / "models" / family).glob("*.gin"))
    assert {f"{file.parent.name}/{file.stem}" for file in files} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    config = config_of(name)
    assert config.num_parameters() == COUNTS[name]
    text = (gin_folder() / f"models/{name}.gin").read_text()
    assert f"{COUNTS[name]:,} parameters" in text
    assert f'include "models/{name}.gin"' in text
    assert models.config_from_dict(config.to_dict()) == config
    if not name.startswith("palm/"):
        kind = kind_of(name, config)
        settings = hf.of_config(config).settings(config, "bfloat16", kind, {})
        back = decoder_settings.config_from(
            settings, kind, dtype=config.dtype, where=Path("config.json")
        )
        assert back == config


@pytest.mark.parametrize("size", PALM)
def test_palms_published_counts_are_those_of_its_matrices(size):
    config = config_of(f"palm/{size}")
    scales = config.emb_dim * (config.num_layers + 1)
    assert round((config.num_parameters() - scales) / 1e9, 2) == PALM[size]
    assert config.num_parameters() - scales == 256_000 * config.emb_dim + config.num_layers * (
        2 * config.emb_dim * config.num_heads * 256
        + 2 * config.emb_dim * 256
        + 3 * config.emb_dim * 4 * config.emb_dim
    )
    assert config.logit_scale == pytest.approx(config.emb_dim**-0.5, rel=1e-12)


@pytest.mark.parametrize("name", [name for name in COUNTS if not name.startswith("palm/")])
def test_transformers_makes_as_many(name):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = config_of(name)
    kind = kind_of(name, config)
    settings = hf.of_config(config).settings(config, "bfloat16", kind, {})
    del settings["model_type"]
    their = transformers.AutoConfig.for_model(kind, **settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(their)
    assert model.num_parameters() == COUNTS[name]
