"""Fixtures of the evaluation tests."""

import sys
from pathlib import Path

# `tiny_run` is shared by the tests of this folder.
sys.path.insert(0, str(Path(__file__).parent))
