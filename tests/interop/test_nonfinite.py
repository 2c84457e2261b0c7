"""Parameters that are NaN or infinite: named when a checkpoint is opened to answer."""

from dataclasses import replace
from pathlib import Path

import checkpoints as ck
import numpy as np
import pytest

from flanx.evaluation.trained import open_trained
from flanx.interop.to_flanx import FlanxTarget
from flanx.interop.to_hf import HfTarget
from flanx.interop.to_t5x import T5xTarget

CONFIG = replace(ck.NARROW, vocab_size=259, num_decoder_layers=2)
NAME = "decoder/layers_1/mlp/wo/kernel"


@pytest.mark.parametrize("value", [None, np.nan, np.inf])
@pytest.mark.parametrize("form", ["flanx", "t5x", "hf"])
def test_an_array_that_is_not_finite_is_named(form: str, value: float | None, tmp_path: Path):
    arrays = ck.random_arrays(CONFIG)
    if value is not None:
        arrays[NAME][2, 3] = value
    source, final = ck.in_memory(CONFIG, arrays), tmp_path / form
    targets = {
        "flanx": lambda folder: FlanxTarget(source, CONFIG, folder),
        "t5x": lambda folder: T5xTarget(source, folder, final),
        "hf": lambda folder: HfTarget(source, CONFIG, folder),
    }
    ck.write(targets[form], source, final)
    notes = open_trained(final, vocabulary="bytes").notes
    told = [note for note in notes if "NaN or infinity" in note]
    assert len(told) == (value is not None)
    assert all(f"'{NAME}'" in note for note in told)
