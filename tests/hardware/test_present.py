"""What is in /dev decides, and JAX_PLATFORMS before it."""

import pytest

from flanx.hardware import present


@pytest.fixture
def dev(monkeypatch, tmp_path):
    monkeypatch.setattr(present, "DEV", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("device", "tpu"), [("nvidia0", False), ("dxg", False), ("accel0", True), ("vfio/0", True)]
)
def test_an_accelerator_is_found(dev, device, tpu):
    (dev / "vfio").mkdir()
    (dev / "vfio" / "vfio").touch()  # the driver's own, on machines without any
    (dev / "nvidiactl").touch()
    assert present.on_cpu({})
    (dev / device).touch()
    assert not present.on_cpu({})
    assert present.has_tpu() == tpu


def test_what_is_asked_for_comes_first(dev):
    (dev / "nvidia0").touch()
    assert present.on_cpu({"JAX_PLATFORMS": "cpu"})
    assert not present.on_cpu({"JAX_PLATFORMS": "cuda,cpu"})
