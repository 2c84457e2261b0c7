"""The door to models: saved configurations find their family, and networks that cannot be asked are refused."""

from pathlib import Path

import pytest

from flanx import models
from flanx.cli.main import main
from flanx.errors import UserError
from flanx.models.decoder.config import DecoderConfig
from flanx.models.t5.config import T5Config

SMALL = T5Config(
    emb_dim=8, num_heads=2, num_encoder_layers=1, num_decoder_layers=1, mlp_dim=8, vocab_size=300
)


KV = {"num_kv_heads": 1, "head_dim": 4}


def test_a_configuration_without_a_tag_is_a_t5():
    values = SMALL.to_dict()
    assert values.pop("family") == "t5"
    assert models.config_from_dict(values) == SMALL


def test_an_unknown_family_is_named():
    with pytest.raises(UserError, match="'t6' is not one of t5, decoder"):
        models.config_from_dict({**SMALL.to_dict(), "family": "t6"})


def test_every_family_comes_back_from_its_dictionary():
    decoder = DecoderConfig(emb_dim=8, num_heads=2, num_layers=1, mlp_dim=8, vocab_size=300, **KV)
    for config in (SMALL, decoder):
        assert models.config_from_dict(config.to_dict()) == config


def test_suites_for_a_family_that_answers_nothing_are_one_line(tmp_path: Path, capsys):
    gin = tmp_path / "decoder.gin"
    gin.write_text('include "quickstart.gin"\ninclude "models/llama/tiny.gin"\n')
    command = ["train", f"--gin_file={gin}", f"--gin.MODEL_DIR={tmp_path}/run", "--dry_run"]
    assert main([*command, "--gin.INITIAL_CHECKPOINT_PATH=None"]) == 2
    error = capsys.readouterr().err.strip()
    assert "family 'decoder'" in error
    assert "\n" not in error
