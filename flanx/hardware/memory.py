"""How a process on a CPU keeps its memory."""

import ctypes
import os
import platform
from collections.abc import Mapping

# malloc.h of glibc
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


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
