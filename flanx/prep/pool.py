"""Runs units of work on all cores, or in this process."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from flanx.prep.unit import Result, Unit, run


def worker_count(wanted: int | None, units: int) -> int:
    """Processes to use: `wanted`, else one a core, and never more than there are units.

    0 means this process alone; so does a single unit, which gains nothing from a process of its own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = (cores or 1) if wanted is None else max(wanted, 0)
    return 0 if units <= 1 and wanted is None else min(count, units)


def run_all(units: Sequence[Unit], workers: int) -> Generator[Result, None, None]:
    """Results as they come. A worker that dies takes its unit with it as a named failure.

    Processes are spawned: nothing of this process (threads, TensorFlow, JAX) leaks into them. Closing the
    iterator early stops them.
    """
    if not workers:
        yield from map(run, units)
        return
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_watch_parent
    )
    try:
        futures: dict[Future[Result], Unit] = {executor.submit(run, unit): unit for unit in units}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield Result(
                    futures[future],
                    failure="a cache process was killed, most likely for want of memory; run again "
                    "with fewer --workers to go on",
                )
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _watch_parent() -> None:
    """Ends this worker when its parent dies (it would wait for work for ever) or the user interrupts."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
