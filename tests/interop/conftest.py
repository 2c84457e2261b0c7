"""A native checkpoint of T5X to spoil; what these tests share (`checkpoints`, `native_form`) is importable."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import checkpoints as ck

from flanx.interop.to_t5x import T5xTarget


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return ck.random_arrays(ck.NARROW)


@pytest.fixture(scope="module")
def slots(arrays) -> dict[str, np.ndarray]:
    return ck.random_slots(arrays)


@pytest.fixture
def native(tmp_path: Path, arrays, slots) -> Path:
    """A native checkpoint in a folder that a test may spoil."""
    source = ck.in_memory(ck.NARROW, arrays, slots)
    final = tmp_path / "native"
    return ck.write(lambda folder: T5xTarget(source, folder, final), source, final)
