"""How a process on a CPU keeps its memory."""

import ctypes
import glob
import os
import platform
from collections.abc import Mapping

# What shows in /dev where there is a GPU or a TPU.
_ACCELERATORS = (
    "/dev/nvidia[0-9]*",
    "/dev/kfd",
    "/dev/dxg",  # Windows' GPU under WSL
    "/dev/accel*",
    "/dev/vfio/[0-9]*",
)
# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def on_cpu(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether JAX will run on the CPU, told without starting it: by JAX_PLATFORMS, or since there is nothing else."""
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms == "cpu"
    return not any(glob.glob(pattern) for pattern in _ACCELERATORS)


def keep_freed(environment: Mapping[str, str] = os.environ) -> bool:
    """From now on what this process frees stays its own, for the next who asks for memory; True where glibc agrees.

    XLA takes all that a training step needs for itself on a CPU (2.3 GB of T5.1.1 small at 8 x 512/128) anew for each
    step. glibc would give it back to the system in between, and the system hand it out again page by page, zeroed: a
    tenth of the step's time. The most that was ever needed at once stays taken until the process ends.

    Does something only before JAX's threads are there, since each may get an arena of its own that cannot hold large
    arrays. What MALLOC_* or GLIBC_TUNABLES say of malloc stays as it is.
    """
    told = any(name.startswith("MALLOC_") for name in environment)
    if told or "glibc.malloc." in environment.get("GLIBC_TUNABLES", ""):
        return False
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        mallopt(parameter, value)
        for parameter, value in ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1))
    )
