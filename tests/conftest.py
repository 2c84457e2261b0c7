"""What every test shares: eight CPU devices, a clean environment, and the optional real data."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip()

# Compiled programs that belong to no run's cache lie in the user's own; tests have one of theirs.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="flanx-tests-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Real data and reference results lie beside the checkout, or where FLANX_TEST_SHARED says.
SHARED = Path(os.environ.get("FLANX_TEST_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def damages():
    """What may become of a small file: cut short, zeroed, made no text, over every sixteenth; of another type."""

    def of(content: bytes) -> list[bytes]:
        damaged = [b"", b"null", b"[]", b'"x"', b"7", b"{}", b"[" * 100_000]
        for part in range(16):
            begin, end = part * len(content) // 16, (part + 1) * len(content) // 16
            damaged.append(content[:begin])
            for byte in (b"\0", b"\xff"):
                damaged.append(content[:begin] + byte * (end - begin) + content[end:])
        return damaged

    return of


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
