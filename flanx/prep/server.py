"""The process that workers are forked from. Imports next to nothing, so that it can start before anything else."""

import multiprocessing
import os
from multiprocessing.context import BaseContext

from flanx import child_process

# What every worker needs, read once.
_PRELOADED = ["flanx.prep.worker", "sentencepiece"]


def start() -> BaseContext:
    """Starts the server while this process goes on; costs nothing to repeat.

    It holds nothing of this process (threads, TensorFlow, JAX), and ends with it.

    Returns:
      The context to make processes in: the server's, or that of new processes where there is none.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        from multiprocessing import forkserver

        forkserver.set_forkserver_preload(_PRELOADED)
        try:
            # Where the user kills this process, its resource tracker cleans up; that is no news.
            with child_process.safe_start(quiet=["resource_tracker"]):
                forkserver.ensure_running()
            return multiprocessing.get_context("forkserver")
        except OSError:  # its socket's path is too long under this TMPDIR, say
            pass
    return multiprocessing.get_context("spawn")


def core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
