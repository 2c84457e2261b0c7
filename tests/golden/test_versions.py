"""A part of flanx that makes other bytes has another version, so that no store of before is read for one of now.

versions.json is written by `python tests/golden/made_by_parts.py`, after the version was raised.
"""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import made_by_parts

from flanx.prep import versions

THEN = json.loads(made_by_parts.RECORD.read_text())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", made_by_parts.MAKERS)
def test_other_bytes_have_another_version(part: str, tmp_path: Path):
    now, then = made_by_parts.made(part, tmp_path), THEN[part]
    if now["versions"] == then["versions"]:
        owner = versions.PARTS.get(part, versions.store)
        assert now["sha256"] == then["sha256"], (
            f"'{part}' makes other bytes: raise the version in {owner.__name__} (or of what it stands on: "
            f"{', '.join(now['versions'])}), then run {made_by_parts.__file__}"
        )
    assert now == then, f"the version was raised: run {made_by_parts.__file__} to record it"


def test_every_part_is_recorded():
    assert set(THEN) == set(made_by_parts.MAKERS) == set(versions.versions())
