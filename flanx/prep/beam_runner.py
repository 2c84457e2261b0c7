"""The work items on Apache Beam: `worker.run` and `worker.join`, as the process pool runs them.

The only module that imports Beam, and only when one of its functions is called. Stores and results are written to the
cache folder, which the workers and this machine must share.
"""

import functools
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from flanx import atomic_files, temporary
from flanx.data import store
from flanx.errors import UserError
from flanx.prep import worker
from flanx.prep.jobs import Job
from flanx.prep.work_item import WorkItem, WorkResult

_POLL = 0.5  # seconds between looks at what has arrived
_PATIENCE = 90.0  # seconds in which a network file system shows what others have written


def on(
    runner: str, options: Sequence[str] = ()
) -> Callable[[Sequence[Job], int], Generator[WorkResult, None, None]]:
    """What runs jobs on a Beam runner, in place of `flanx.prep.pool.run_all`.

    Args:
      runner: its name, as Beam knows it: DirectRunner, DataflowRunner, FlinkRunner ...
      options: further options of the pipeline, one "--name=value" each.

    Raises:
      UserError: Beam is not installed, or knows no such runner.
    """
    return functools.partial(_run_all, _settings(runner, options))


def _settings(runner: str, options: Sequence[str]) -> Any:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    except ImportError as error:
        raise UserError(
            f"--runner={runner} needs Apache Beam ({error}): pip install 'flanx[beam]'"
        ) from None
    try:
        create_runner(runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"--runner={runner}: {' '.join(str(error).split())}") from None
    return PipelineOptions([f"--runner={runner}", *options])


def _run_all(settings: Any, jobs: Sequence[Job], _: int) -> Generator[WorkResult, None, None]:
    """Runs the pipeline in a thread, and gives results as workers leave them in the cache folder.

    Raises:
      UserError: the pipeline ended well, but its results are not to be seen from here.
    """
    if not jobs:
        return
    cache_dir = jobs[0].items[0].cache_dir
    folder = Path(cache_dir) / "manifests" / f"{temporary.prefix()}beam"
    folder.mkdir(parents=True)
    waiting = {_file_of(item): item for job in jobs for item in job.items}
    errors: list[BaseException] = []

    def pipeline() -> None:
        try:
            _pipeline(settings, jobs, str(folder))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=pipeline, name="flanx-beam", daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_POLL)
            yield from _arrived(folder, waiting)
        yield from _arrived(folder, waiting)
        if errors:
            raise errors[0]
        given_up = time.monotonic() + _PATIENCE
        while waiting and time.monotonic() < given_up:
            time.sleep(_POLL)
            yield from _arrived(folder, waiting)
        if waiting:
            raise UserError(_not_shared(cache_dir, str(folder / next(iter(waiting)))))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pipeline(settings: Any, jobs: Sequence[Job], folder: str) -> None:
    import apache_beam as beam

    small = [job.items for job in jobs if job.shards == 1]
    pieces = [
        (number, piece)
        for number, job in enumerate(jobs)
        if job.shards > 1
        for piece in job.pieces()
    ]
    with beam.Pipeline(options=settings) as pipeline:
        _ = (
            pipeline
            | "tasks" >> beam.Create(small)
            | "spread tasks" >> beam.Reshuffle()
            | "make tasks" >> beam.FlatMap(worker.run_each)
            | "report tasks" >> beam.Map(leave, folder)
        )
        _ = (
            pipeline
            | "shards" >> beam.Create(pieces)
            | "spread shards" >> beam.Reshuffle()
            | "make shards" >> beam.MapTuple(run_shard)
            | "shards of a task" >> beam.GroupByKey()
            | "join" >> beam.MapTuple(join)
            | "report joined" >> beam.Map(leave, folder)
        )


def run_shard(number: int, item: WorkItem) -> tuple[int, WorkResult]:
    """Runs a shard; the job's number says which belong together."""
    return number, worker.run(item)


def join(_: int, shards: Iterable[WorkResult]) -> WorkResult:
    """Joins the shards of a task."""
    found = list(shards)
    return worker.join(replace(found[0].item, shard=None), found)


def leave(result: WorkResult, folder: str) -> None:
    """Leaves a result for the process that waits, as JSON; a repeated one takes its own place.

    The folder is shared, so that what is read there is data: a pickle would run whatever it names.
    """
    plain = {one.name: getattr(result, one.name) for one in fields(result) if one.name != "item"}
    atomic_files.write(Path(folder) / _file_of(result.item), json.dumps(plain))


def _file_of(item: WorkItem) -> str:
    return hashlib.blake2b(repr(item.identity).encode(), digest_size=16).hexdigest()


def _arrived(folder: Path, waiting: dict[str, WorkItem]) -> Iterator[WorkResult]:
    """Results that are there and were not given before; the items are this process's own."""
    for name in sorted(set(os.listdir(folder)) & set(waiting)):
        item = waiting.pop(name)
        result = _read(folder / name, item)
        if result.failure is None:
            _await_store(item, result)
        yield result


def _read(path: Path, item: WorkItem) -> WorkResult:
    """What `leave` left.

    Raises:
      UserError: something else lies there.
    """
    try:
        return WorkResult(**{**json.loads(path.read_bytes()), "item": item})
    except (ValueError, TypeError) as error:
        raise UserError(
            f"{path} is no result of this flanx ({error}): its workers need the same version"
        ) from error


def _await_store(item: WorkItem, result: WorkResult) -> None:
    path = os.path.join(item.cache_dir, result.path)
    given_up = time.monotonic() + _PATIENCE
    while not store.looks_whole(path, int(result.meta["bytes"])):
        if time.monotonic() > given_up:
            raise UserError(_not_shared(item.cache_dir, path))
        time.sleep(_POLL)


def _not_shared(cache_dir: str, missing: str) -> str:
    return (
        f"Beam has ended, but {missing} is not to be seen here: CACHE_DIR {cache_dir} must be a folder that this "
        "machine and every worker share (NFS, Filestore, Lustre ...)"
    )
