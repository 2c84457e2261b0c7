"""What a process does once before it trains: a cache of compiled programs, its memory kept, and quiet libraries."""

import hashlib
import logging
import os
import platform
import stat
import sys
from importlib import util
from pathlib import Path
from typing import Any

from flanx.hardware import memory, present
from flanx.terminal import printable, say
from flanx.training.config import TrainConfig


def compile_cache(config: TrainConfig) -> str:
    """The run's folder of compiled programs: `<cache_dir>/xla` unless it says otherwise, "" for none."""
    if config.compile_cache is not None:
        return config.compile_cache
    return str(Path(config.data.cache_dir) / "xla")


def prepare(compiled: str) -> None:
    """Sets JAX's compile cache, keeps freed memory on a CPU, and keeps libraries from writing over the progress.

    Programs compiled for a CPU name its instructions, so each kind of CPU gets a folder of its own: a cache on a shared
    disk never hands a machine code that it cannot run. Errors of orbax reach the user as exceptions, told in one line.

    Args:
      compiled: folder of compiled programs; "" for none. One that others can write to is not used.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for library in ("absl", "asyncio"):  # asyncio: each array that a failed save has not written
        logging.getLogger(library).setLevel(logging.CRITICAL)
    if sys.unraisablehook is not _unraisable:
        global _others
        _others, sys.unraisablehook = sys.unraisablehook, _unraisable
    if present.on_cpu():
        memory.keep_freed()
        if (
            util.find_spec("libtpu") is not None
        ):  # for `flanx plan`; JAX would try it, and it complains at length
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
            if "jax" in sys.modules and not sys.modules["jax"].config.jax_platforms:
                sys.modules["jax"].config.update("jax_platforms", "cpu")
    import jax

    folder = str(Path(compiled).expanduser().absolute() / _cpu_kind())
    if compiled and _ours(folder):
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        jax.config.update("jax_raise_persistent_cache_errors", False)


def _ours(folder: str) -> bool:
    """Whether nobody else could have put a program there: it is machine code, and is run as it is."""
    for place in (Path(folder), Path(folder).parent):
        if hasattr(os, "getuid") and place.exists():
            status = place.stat()
            if status.st_uid not in (os.getuid(), 0) or status.st_mode & stat.S_IWOTH:
                say(
                    f"flanx: compiled programs in {printable(place)} are not used: others can write there; "
                    "set TrainConfig.compile_cache to a folder of your own"
                )
                return False
    return True


_others = sys.unraisablehook


def _unraisable(event: Any) -> None:
    """Where a save fails, writes of its other arrays end after it, and each would complain of it on stderr."""
    if "Event loop is closed" not in str(event.exc_value):
        _others(event)


def _cpu_kind() -> str:
    """A short name for the instructions that this machine's CPU has."""
    flags = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        wanted = ("model name", "flags", "Features", "CPU part")
        lines = info.read_text(errors="ignore").splitlines()
        flags = "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
    return f"{platform.machine()}-{hashlib.sha256(flags.encode()).hexdigest()[:8]}"
