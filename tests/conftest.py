"""What every test shares: eight CPU devices, a clean environment, and the optional real data."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip()

# Real data and reference results lie beside the checkout, or where FLANX_TEST_SHARED says.
SHARED = Path(os.environ.get("FLANX_TEST_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real datasets in their real formats; the test is skipped where there is none."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def shared_oracles() -> Path:
    """Folder of results that T5X and transformers computed; skipped where there is none."""
    folder = SHARED / "oracles"
    if not folder.is_dir():
        pytest.skip(f"no reference results at {folder}")
    return folder
