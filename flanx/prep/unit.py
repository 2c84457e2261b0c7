"""The unit of work: one split of one task, or a part of a large one, from its source to a store. Runs anywhere."""

import errno
import functools
import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import flanx
from flanx import registry
from flanx.data import store, temporary, vocabulary
from flanx.data.filters import Filter
from flanx.data.request import safe_name
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.prep import parts, render
from flanx.prep.filtering import engine as filter_engine
from flanx.prep.filtering import sketching
from flanx.prep.filtering.sieve import Sieve
from flanx.prep.tally import Tally

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_WAITING = 8  # stores that wait for the disk together


@dataclass(frozen=True)
class Unit:
    """What to cache. Picklable: the process that runs it finds the task by name.

    Attributes:
      task: task name.
      split: its split.
      lengths: most tokens of each feature.
      vocabulary: vocabulary spec.
      cache_dir: folder of stores, user's home expanded.
      data_dir: folder of relative data files.
      seed: seed of all draws.
      max_examples: most rows of the source that are taken.
      for_eval: keep texts.
      mixture, imports: what `registry.load_for` needs to find the task.
      bare: a SeqIO task that flanx did not register.
      force: write the store anew even if it is there.
      verify: compare the checksum of a store that is there.
      shard: (i, n): render only the i-th of n parts of the task, for `join`.
      parts: put so many parts together that others have rendered.
      filters: filters that judge one example at a time.
      overlaps: index file of each Decontaminate among them, relative to the cache folder.
      sketch: duplicate filters for which this unit sketches its dataset's rows.
    """

    task: str
    split: str
    lengths: Mapping[str, int]
    vocabulary: str
    cache_dir: str
    data_dir: str | None = None
    seed: int = 0
    max_examples: int | None = None
    for_eval: bool = False
    mixture: str = ""
    imports: tuple[str, ...] = ()
    bare: bool = False
    force: bool = False
    verify: bool = False
    shard: tuple[int, int] | None = None
    parts: int | None = None
    filters: tuple[Filter, ...] = ()
    overlaps: tuple[str, ...] = ()
    sketch: tuple[Filter, ...] = ()

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two units that would write the same files."""
        lengths = tuple(sorted(self.lengths.items()))
        return (
            *(self.task, self.split, lengths, self.vocabulary, self.cache_dir, self.data_dir),
            *(self.seed, self.max_examples, self.for_eval),
            *(self.filters, self.overlaps, self.sketch),
        )


@dataclass(frozen=True)
class Result:
    """How a unit ended.

    Attributes:
      unit: the unit.
      path: store folder, relative to the cache folder.
      meta: its meta.json.
      written: False where a whole store was there already.
      repaired: why a store that was there had to be written anew.
      failure: what went wrong, in one line; None where nothing did.
      disk_full: the failure is that no space is left.
      seconds: wall time.
      parts: how many parts its task has, where the unit was a shard that rendered some.
      sketch: the dataset's sketch, relative to the cache folder, where the unit was to make it.
    """

    unit: Unit
    path: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    written: bool = False
    repaired: str | None = None
    failure: str | None = None
    disk_full: bool = False
    seconds: float = 0.0
    parts: int | None = None
    sketch: str | None = None


Ending = Callable[[], Result]


def run(unit: Unit) -> Result:
    """Makes the unit's store, unless it is there; what goes wrong is named, never raised."""
    return run_each((unit,))[0]


def run_each(units: Iterable[Unit]) -> list[Result]:
    """Runs units one after the other; while one is rendered, threads wait for the disk to take in those before it."""
    with ThreadPoolExecutor(_WAITING) as disk:
        return [ending.result() for ending in [_begin(unit, disk) for unit in units]]


def _begin(unit: Unit, disk: ThreadPoolExecutor) -> "Future[Result]":
    """Does all of a unit but for what waits for the disk."""
    began = time.perf_counter()

    def guarded(step: Callable[[], tuple[Result, Ending | None]]) -> tuple[Result, Ending | None]:
        try:
            result, ending = step()
        except UserError as error:
            result, ending = Result(unit, failure=str(error)), None
        except OSError as error:
            full = error.errno in DISK_FULL
            result, ending = Result(unit, failure=_named(error), disk_full=full), None
        except Exception as error:
            result, ending = Result(unit, failure=_named(error)), None
        return replace(result, seconds=time.perf_counter() - began), ending

    result, ending = guarded(lambda: _run(unit))
    if ending is not None and not unit.sketch:
        return disk.submit(lambda: guarded(lambda: (ending(), None))[0])
    if ending is not None:
        result, _ = guarded(lambda: (ending(), None))
    if unit.sketch and unit.shard is None and result.failure is None:
        made = result
        result, _ = guarded(lambda: (replace(made, sketch=sketching.of_unit(unit, made)), None))
    done: Future[Result] = Future()
    done.set_result(result)
    return done


def join(unit: Unit, shards: Sequence[Result]) -> Result:
    """Puts the task together whose shards have run; `unit` is the whole one."""
    for result in shards:
        if result.failure is not None:
            return replace(result, unit=unit)
    counts = [result.parts for result in shards]
    count = None if None in counts else counts[0]  # None: the store was there already
    whole = run(replace(unit, parts=count, verify=False, force=False))  # which the shards have done
    repaired = next((result.repaired for result in shards if result.repaired), None)
    seconds = whole.seconds + sum(result.seconds for result in shards)
    return replace(whole, unit=unit, repaired=whole.repaired or repaired, seconds=seconds)


def _run(unit: Unit) -> tuple[Result, Ending | None]:
    """The result; or, where a store has been written, what is still to be done for it."""
    _load_tasks(unit.mixture, unit.imports)
    words = vocabulary.load(unit.vocabulary, unit.data_dir)
    key, made_of = store_key(unit, words)
    path = _path(unit, key)
    folder = Path(unit.cache_dir) / path
    place = parts.folder(unit, key)
    _refuse_links(folder.parent, folder, place)
    temporary.sweep(folder.parent)
    repaired = None
    if unit.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        try:
            result = Result(unit, path, meta_of(folder, unit.verify))
            shutil.rmtree(place, ignore_errors=True)
            return result, None
        except store.StoreDamaged as damage:
            repaired = str(damage)
            shutil.rmtree(folder, ignore_errors=True)
    if unit.shard is not None:
        try:
            count = parts.make(unit, words, place, key)
        except FileNotFoundError:  # somebody has just finished the task and swept its parts
            if not folder.is_dir():
                raise
            return Result(unit, path, meta_of(folder)), None
        return Result(unit, path, repaired=repaired, parts=count), None
    tally = Tally(unit.lengths)
    meta = {"task": unit.task, "split": unit.split, "key": key, "made_of": made_of}
    rows = _checked(unit, words, tally, meta, _parts(unit, place))
    made = store.draft(folder, rows, meta, vocabulary_size=words.size, for_eval=unit.for_eval)

    def end() -> Result:
        made.publish()
        shutil.rmtree(place, ignore_errors=True)
        return result

    result = Result(unit, path, made.meta, written=True, repaired=repaired)
    return result, end


def _refuse_links(*folders: Path) -> None:
    """Whoever shares the cache folder must not lead what is written, or removed, to another place."""
    for folder in folders:
        if folder.is_symlink():
            raise UserError(
                f"{folder} is a symbolic link, which a cache folder holds none of; remove it, or set "
                "CACHE_DIR to another folder"
            )


def meta_of(folder: Path, verify: bool = False) -> dict[str, Any]:
    """The meta.json of a task's store that is there.

    Raises:
      StoreDamaged: it is not whole; with `verify`, not what was written.
    """
    if verify:
        store.verify(folder)
    meta = store.open(folder).meta
    for name in ("dropped", "clipped", "longest"):
        if name not in meta:
            raise store.StoreDamaged(f"{folder / store.META}: '{name}' is missing")
    return meta


def _parts(unit: Unit, place: Path) -> list[store.TaskStore] | None:
    """The parts that are to be joined; None to render the task at once, also where some are gone.

    They are where another process has just put the same task together.
    """
    try:
        return None if unit.parts is None else parts.opened(place, unit.parts)
    except store.StoreDamaged:
        return None


def store_path(unit: Unit, words: Vocabulary) -> str:
    """The folder of the unit's store as things are now, relative to the cache folder; nothing is made."""
    return _path(unit, store_key(unit, words)[0])


def _path(unit: Unit, key: str) -> str:
    return f"{safe_name(unit.task)}/{safe_name(unit.split)}-{key}"


def store_key(unit: Unit, words: Vocabulary) -> tuple[str, dict[str, Any]]:
    """The key of the unit's store, and everything that it hashes.

    Returns:
      16 hex digits of BLAKE2b over the canonical JSON of the second value.
    """
    if unit.bare:
        from flanx.prep import seqio_tasks

        spec = None
        task = seqio_tasks.fingerprint(unit.task, unit.split)
    else:
        spec = registry.get_task(unit.task)
        task = spec.fingerprint(
            unit.split,
            feature_lengths=unit.lengths,
            vocabulary=words,
            seed=unit.seed,
            data_dir=unit.data_dir,
            max_examples=unit.max_examples,
        )
    made_of = {
        "task": unit.task,
        "split": unit.split,
        "source": task,
        "feature_lengths": dict(sorted(unit.lengths.items())),
        "vocabulary": words.fingerprint,
        "seed": unit.seed,
        "max_examples": unit.max_examples,
        "for_eval": unit.for_eval,
        "format_version": store.FORMAT_VERSION,
        "flanx_version": flanx.__version__,
        "engine": engine_fingerprint(),
    }
    if unit.filters:
        made_of["filters"] = filter_engine.fingerprint(unit.filters, unit.overlaps, spec)
    canonical = json.dumps(made_of, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest(), made_of


_PREPARING = (
    *("unit.py", "parts.py", "render.py", "seqio_tasks.py", "tally.py"),
    "../data/long_texts.py",
    *(
        f"../data/vocabulary/{path.name}"
        for path in sorted(Path(vocabulary.__path__[0]).glob("*.py"))
    ),
)


def engine_files() -> list[str]:
    """The code of flanx that decides which tasks a mixture has, at which rates, and what is in their stores."""
    here = Path(__file__).parent
    registry_files = sorted((here.parent / "registry").glob("*.py"))
    return [os.path.abspath(path) for path in (*registry_files, *(here / n for n in _PREPARING))]


@functools.cache
def engine_fingerprint() -> str:
    """Hash of the code that makes a store of what the registry renders, whose own is `fingerprint.engine_hash`."""
    digest = hashlib.blake2b(digest_size=8)
    for name in _PREPARING:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()


@functools.cache
def _load_tasks(mixture: str, imports: tuple[str, ...]) -> None:
    if mixture:
        registry.load_for(mixture, imports)


def _checked(
    unit: Unit,
    words: Vocabulary,
    tally: Tally,
    meta: dict[str, Any],
    ready: list[store.TaskStore] | None,
) -> Iterator[store.Example | store.TaskStore]:
    """What the store is to hold; at the end the counts go into `meta`, or lengths that fit nothing are refused."""
    if ready is not None:
        yield from parts.counted(ready, tally)
    elif unit.bare:
        from flanx.prep import seqio_tasks

        sieve = Sieve(unit, None) if unit.filters else None
        yield from seqio_tasks.examples(unit, words, tally, sieve)
    else:
        yield from render.examples(registry.get_task(unit.task), unit, words, tally)
    tally.check(unit.task, unit.split)
    meta.update(tally.to_json())


def _named(error: Exception) -> str:
    """An unexpected error in one line, with the place outside flanx, or the innermost one, where it arose."""
    frames = traceback.extract_tb(error.__traceback__)
    package = str(Path(flanx.__file__).parent) + os.sep
    outside = [frame for frame in frames if not frame.filename.startswith(package)]
    place = (outside or frames)[-1]
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text} ({os.path.relpath(place.filename)}:{place.lineno})"
