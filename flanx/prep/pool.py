"""Runs work items on all cores, or in this process."""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from flanx.prep import server, worker
from flanx.prep.jobs import Job
from flanx.prep.work_item import WorkItem, WorkResult

_KILLED = "a cache process was killed, most likely for want of memory; run again with fewer --workers to resume"
_SMALL = 1 << 20  # bytes of data that are done before a second process has started


def worker_count(wanted: int | None, jobs: Sequence[Job]) -> int:
    """Processes to use: `wanted`, else one a core, and never more than there are pieces of work.

    0 means this process alone; so does, unless a number is wanted, so little work that a process of its own is no gain.
    """
    pieces = sum(job.shards for job in jobs)
    if wanted is not None:
        return min(max(wanted, 0), pieces)
    if pieces <= 1 or sum(job.cost for job in jobs) < _SMALL:
        return 0
    return min(server.core_count(), pieces)


def run_all(jobs: Sequence[Job], workers: int) -> Generator[WorkResult, None, None]:
    """A result for each item and, before it, for each of its shards, as they come.

    A worker that dies takes its items with it as named failures.

    Closing the iterator early stops the workers.

    Args:
      jobs: what to do, in the order to start in.
      workers: processes; 0 for this one alone.
    """
    if not workers:
        for job in jobs:
            yield from worker.run_each(job.items)
        return
    executor = ProcessPoolExecutor(
        workers, mp_context=server.start(), initializer=_begin, initargs=(dict(os.environ),)
    )
    try:
        yield from _Schedule(executor, jobs).results()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


class _Schedule:
    """Which job each future belongs to; a task's shards are joined as soon as the last of them is there."""

    def __init__(self, executor: ProcessPoolExecutor, jobs: Sequence[Job]):
        self._executor = executor
        self._done: queue.SimpleQueue[Future[list[WorkResult]]] = queue.SimpleQueue()
        self._jobs: dict[Future[list[WorkResult]], Job] = {}
        self._shards: dict[Job, list[WorkResult]] = {}
        for job in jobs:
            if job.shards == 1:
                self._submit(job, worker.run_each, job.items)
            else:
                self._shards[job] = []
                for piece in job.pieces():
                    self._submit(job, worker.run_each, (piece,))

    def results(self) -> Generator[WorkResult, None, None]:
        while self._jobs:
            future = self._done.get()
            job = self._jobs.pop(future)
            try:
                found = future.result()
            except BrokenProcessPool:
                # Of a task in shards the whole, which is to be joined, says so for all of them.
                lost = job.pieces()[:1] if job in self._shards else job.items
                found = [WorkResult(item, failure=_KILLED) for item in lost]
            if job not in self._shards:
                yield from found
                continue
            yield from found
            self._shards[job] += found
            if len(self._shards[job]) == job.shards:
                self._submit(job, _join, job.items[0], tuple(self._shards.pop(job)))

    def _submit(self, job: Job, function: Callable[..., list[WorkResult]], *args: object) -> None:
        try:
            future = self._executor.submit(function, *args)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self._jobs[future] = job
        future.add_done_callback(self._done.put)


def _join(item: WorkItem, shards: Sequence[WorkResult]) -> list[WorkResult]:
    return [worker.join(item, shards)]


def _begin(environment: dict[str, str]) -> None:
    """Takes over the caller's environment, and ends this worker when its caller dies or the user interrupts."""
    os.environ.update(environment)
    # At once: what would be cleaned up (executor queues, TensorFlow's threads) waits for locks that the caller, who is
    # being interrupted too, may never give back; a store that is half written has no name yet.
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
