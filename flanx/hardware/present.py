"""Which accelerators this machine has, told by /dev without starting JAX."""

import os
from collections.abc import Mapping
from pathlib import Path

DEV = Path("/dev")
_GPUS = ("nvidia[0-9]*", "kfd", "dxg")  # NVIDIA's, AMD's, and any under Windows' WSL
_TPUS = ("accel[0-9]*", "vfio/[0-9]*")  # up to v4, and from v5e on


def has_tpu() -> bool:
    """Whether there are TPU chips."""
    return _any(_TPUS)


def on_cpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether JAX will run on the CPU: by JAX_PLATFORMS, or since there is nothing else."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms == "cpu"
    return not _any(_GPUS + _TPUS)


def _any(patterns: tuple[str, ...]) -> bool:
    return any(any(DEV.glob(pattern)) for pattern in patterns)
