"""Names of slices and servers."""

import subprocess
import sys

import pytest

from flanx.errors import UserError
from flanx.plan import topology


@pytest.mark.parametrize(
    ("text", "devices", "said"),
    [
        ("v4:8x8x8", 512, "v4:8x8x8 (512 chips, v4-1024)"),
        ("v4-512", 256, "v4:4x8x8 (256 chips, v4-512)"),
        ("v5p-64", 32, "v5p:2x4x4 (32 chips, v5p-64)"),
        ("v5e-16", 16, "v5e:4x4 (16 chips, v5e-16)"),
        ("v5p-12288", 6144, "v5p:16x16x24 (6144 chips, v5p-12288)"),
        ("v4:4x2x4", 32, "v4:4x2x4 (32 chips, v4-64)"),
        ("v5litepod-256", 256, "v5e:16x16 (256 chips, v5e-256)"),
        ("V6E:16x16", 256, "v6e:16x16 (256 chips, v6e-256)"),
        ("h200:8", 8, "h200:8 (8 GPUs, 1 server)"),
        ("h100:8x4", 32, "h100:8x4 (32 GPUs, 4 servers of 8)"),
        ("h100-pcie:4", 4, "h100-pcie:4 (4 GPUs, 1 server)"),
    ],
)
def test_names_are_read(text, devices, said):
    found = topology.parse(text)
    assert (found.devices, found.describe()) == (devices, said)


def test_slices_multiply():
    found = topology.parse("v5e:16x16", slices=4)
    assert (found.devices, found.per_slice) == (1024, 256)
    assert found.describe() == "4 slices of v5e:16x16 (256 chips, v5e-256)"


@pytest.mark.parametrize(
    ("text", "slices", "words"),
    [
        ("v4", 1, "write v4:8x8x8"),
        ("v5:8x8", 1, "no chip 'v5'; did you mean"),
        ("v4:8x8", 1, "3 dimensions, as in v4:8x8x8"),
        ("v6e:4x4x4", 1, "2 dimensions, as in v6e:16x16"),
        ("v4-511", 1, "known are v4-8, v4-16"),
        ("h100-8", 1, "write v4:8x8x8"),
        ("h100:8x4x2", 1, "four servers of 8"),
        ("h100:8x4", 2, "four servers of 8"),
        ("v5e:0x4", 1, "at least 1"),
        ("v5e:4x4", 0, "--slices 0"),
        ("v5e:32x32", 1, "v5e slices are 1x1, 2x2, .*16x16; --slices joins several"),
        ("v6e:3x5", 1, "v6e slices are"),
        ("v4:3x3x3", 1, "any multiples of 4 up to 4,096 chips"),
        ("v4:16x16x20", 1, "up to 4,096 chips"),
        ("v4-12288", 1, "known are v4-8, .*v4-8192;"),
        ("h100:32", 1, "no server has 32 GPUs; h100:8x4 is 4 servers of 8"),
    ],
)
def test_what_does_not_exist_is_refused(text, slices, words):
    with pytest.raises(UserError, match=words):
        topology.parse(text, slices)


def test_without_libtpu_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(topology, "has_compiler", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'flanx\[plan\]'"):
        topology.tpu_devices(topology.parse("v5e-16"))


def test_chips_and_names_need_no_jax():
    code = (
        "import sys; from flanx.plan import topology; topology.parse('v4-512'); "
        "sys.exit(any(m in sys.modules for m in ('jax', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
