"""The playground's stores, byte for byte, and its first losses, as they were recorded.

values.json is written by `python tests/golden/test_golden.py`; a change that is meant to move these numbers writes it
again and says so.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import record

VALUES = Path(__file__).with_name("values.json")
STEPS = 6


def measured(folder: Path) -> dict:
    losses = record.train(folder, record.PLAYGROUND, steps=STEPS)
    return {"losses": losses, "stores": record.store_hashes(folder / "cache")}


@pytest.fixture(scope="module")
def now(tmp_path_factory):
    return measured(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def then():
    return json.loads(VALUES.read_text())


def test_the_same_rows_are_rendered_to_the_same_tokens(now, then):
    assert now["stores"] == then["stores"]


def test_training_begins_with_the_same_losses(now, then):
    # Processors round differently, and each step builds on the last.
    assert now["losses"] == pytest.approx(then["losses"], rel=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        VALUES.write_text(json.dumps(measured(Path(scratch)), indent=1) + "\n")
