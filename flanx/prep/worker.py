"""The worker: makes the store of a work item, from the source to the disk. Runs in any process, on any machine."""

import errno
import functools
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import flanx
from flanx import registry, temporary
from flanx.data import store, vocabulary
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.prep import parts, render, store_keys
from flanx.prep.filtering import sketching
from flanx.prep.filtering.row_filters import RowFilters
from flanx.prep.render_stats import RenderStats
from flanx.prep.work_item import WorkItem, WorkResult

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_WAITING = 8  # stores that wait for the disk together


Ending = Callable[[], WorkResult]


def run(item: WorkItem) -> WorkResult:
    """Makes the item's store, unless it is there; what goes wrong is named, never raised."""
    return run_each((item,))[0]


def run_each(items: Iterable[WorkItem]) -> list[WorkResult]:
    """Runs items one after the other; while one is rendered, threads wait for the disk to take in those before it."""
    with ThreadPoolExecutor(_WAITING) as disk:
        return [ending.result() for ending in [_begin(item, disk) for item in items]]


def _begin(item: WorkItem, disk: ThreadPoolExecutor) -> "Future[WorkResult]":
    """Does all of an item but for what waits for the disk."""
    began = time.perf_counter()

    def guarded(
        step: Callable[[], tuple[WorkResult, Ending | None]],
    ) -> tuple[WorkResult, Ending | None]:
        try:
            result, ending = step()
        except UserError as error:
            result, ending = WorkResult(item, failure=str(error)), None
        except OSError as error:
            full = error.errno in DISK_FULL
            result, ending = WorkResult(item, failure=_named(error), disk_full=full), None
        except Exception as error:
            result, ending = WorkResult(item, failure=_named(error)), None
        return replace(result, seconds=time.perf_counter() - began), ending

    result, ending = guarded(lambda: _run(item))
    if ending is not None and not item.sketch:
        return disk.submit(lambda: guarded(lambda: (ending(), None))[0])
    if ending is not None:
        result, _ = guarded(lambda: (ending(), None))
    if item.sketch and item.shard is None and result.failure is None:
        made = result
        result, _ = guarded(lambda: (replace(made, sketch=sketching.of_item(item, made)), None))
    done: Future[WorkResult] = Future()
    done.set_result(result)
    return done


def join(item: WorkItem, shards: Sequence[WorkResult]) -> WorkResult:
    """Puts the task together whose shards have run; `item` is the whole one."""
    for result in shards:
        if result.failure is not None:
            return replace(result, item=item)
    counts = [result.parts for result in shards]
    count = None if None in counts else counts[0]  # None: the store was there already
    whole = run(replace(item, parts=count, verify=False, force=False))  # which the shards have done
    repaired = next((result.repaired for result in shards if result.repaired), None)
    seconds = whole.seconds + sum(result.seconds for result in shards)
    return replace(whole, item=item, repaired=whole.repaired or repaired, seconds=seconds)


def _run(item: WorkItem) -> tuple[WorkResult, Ending | None]:
    """The result; or, where a store has been written, what is still to be done for it."""
    _load_tasks(item.mixture, item.imports)
    words = vocabulary.load(item.vocabulary, item.data_dir)
    key, made_of = store_keys.store_key(item, words)
    path = store_keys.path_of(item, key)
    folder = Path(item.cache_dir) / path
    place = parts.folder(item, key)
    _refuse_links(folder.parent, folder, place)
    temporary.sweep(folder.parent)
    repaired = None
    if item.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        try:
            result = WorkResult(item, path, store_keys.meta_of(folder, item.verify))
            shutil.rmtree(place, ignore_errors=True)
            return result, None
        except store.StoreDamaged as damage:
            repaired = str(damage)
            shutil.rmtree(folder, ignore_errors=True)
    if item.shard is not None:
        try:
            count = parts.make(item, words, place, key)
        except FileNotFoundError:  # somebody has just finished the task and swept its parts
            if not folder.is_dir():
                raise
            return WorkResult(item, path, store_keys.meta_of(folder)), None
        return WorkResult(item, path, repaired=repaired, parts=count), None
    stats = RenderStats(item.lengths)
    meta = {
        "task": item.task,
        "split": item.split,
        "key": key,
        "made_of": made_of,
        "flanx_version": flanx.__version__,
    }
    rows = _checked(item, words, stats, meta, _parts(item, place))
    made = store.draft(folder, rows, meta, vocabulary_size=words.size, for_eval=item.for_eval)

    def end() -> WorkResult:
        made.publish()
        shutil.rmtree(place, ignore_errors=True)
        return result

    result = WorkResult(item, path, made.meta, written=True, repaired=repaired)
    return result, end


def _refuse_links(*folders: Path) -> None:
    """Whoever shares the cache folder must not lead what is written, or removed, to another place."""
    for folder in folders:
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a symbolic link, which a cache folder holds none of; remove it, or set "
                "CACHE_DIR to another folder"
            )


def _parts(item: WorkItem, place: Path) -> list[store.TaskStore] | None:
    """The parts that are to be joined; None to render the task at once, also where some are gone.

    They are where another process has just put the same task together.
    """
    try:
        return None if item.parts is None else parts.opened(place, item.parts)
    except store.StoreDamaged:
        return None


@functools.cache
def _load_tasks(mixture: str, imports: tuple[str, ...]) -> None:
    if mixture:
        registry.load_for(mixture, imports)


def _checked(
    item: WorkItem,
    words: Vocabulary,
    stats: RenderStats,
    meta: dict[str, Any],
    ready: list[store.TaskStore] | None,
) -> Iterator[store.Example | store.TaskStore]:
    """What the store is to hold; at the end the counts go into `meta`, or lengths that fit nothing are refused."""
    if ready is not None:
        yield from parts.counted(ready, stats)
    elif item.bare:
        from flanx.prep import seqio_tasks

        filters = RowFilters(item, None) if item.filters else None
        yield from seqio_tasks.examples(item, words, stats, filters)
    else:
        yield from render.examples(registry.get_task(item.task), item, words, stats)
    stats.check(item.task, item.split)
    meta.update(stats.to_json())


def _named(error: Exception) -> str:
    """An unexpected error in one line, with the place outside flanx, or the innermost one, where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    package = str(Path(flanx.__file__).parent) + os.sep
    outside = [frame for frame in frames if not frame.filename.startswith(package)]
    place = (outside or frames)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({os.path.relpath(place.filename)}:{place.lineno})"
