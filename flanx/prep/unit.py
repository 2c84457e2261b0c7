"""The unit of work: one split of one task, from its source to a store folder. Runs in any process."""

import errno
import functools
import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flanx
from flanx import registry
from flanx.data import store, vocabulary
from flanx.data.request import safe_name
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.prep.tally import Tally

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


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

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two units that would write the same store."""
        lengths = tuple(sorted(self.lengths.items()))
        return (
            *(self.task, self.split, lengths, self.vocabulary, self.cache_dir, self.data_dir),
            *(self.seed, self.max_examples, self.for_eval),
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
    """

    unit: Unit
    path: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    written: bool = False
    repaired: str | None = None
    failure: str | None = None
    disk_full: bool = False
    seconds: float = 0.0


def run(unit: Unit) -> Result:
    """Makes the unit's store, unless it is there; what goes wrong is named, never raised."""
    began = time.perf_counter()
    try:
        result = _run(unit)
    except UserError as error:
        result = Result(unit, failure=str(error))
    except OSError as error:
        result = Result(unit, failure=_named(error), disk_full=error.errno in DISK_FULL)
    except Exception as error:
        result = Result(unit, failure=_named(error))
    return Result(**{**vars(result), "seconds": time.perf_counter() - began})


def _run(unit: Unit) -> Result:
    _load_tasks(unit.mixture, unit.imports)
    words = vocabulary.load(unit.vocabulary, unit.data_dir)
    key, parts = store_key(unit, words)
    path = f"{safe_name(unit.task)}/{safe_name(unit.split)}-{key}"
    folder = Path(unit.cache_dir) / path
    store.sweep(folder.parent)
    repaired = None
    if unit.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        try:
            if unit.verify:
                store.verify(folder)
            return Result(unit, path, store.open(folder).meta)
        except store.StoreDamaged as damage:
            repaired = str(damage)
            shutil.rmtree(folder, ignore_errors=True)
    tally = Tally(unit.lengths)
    meta = {"task": unit.task, "split": unit.split, "key": key, "made_of": parts}
    rows = _checked(unit, words, tally, meta)
    whole = store.write(folder, rows, meta, vocabulary_size=words.size, for_eval=unit.for_eval)
    return Result(unit, path, whole, written=True, repaired=repaired)


def store_key(unit: Unit, words: Vocabulary) -> tuple[str, dict[str, Any]]:
    """The key of the unit's store, and everything that it hashes.

    Returns:
      16 hex digits of BLAKE2b over the canonical JSON of the second value.
    """
    if unit.bare:
        from flanx.prep import seqio_tasks

        task = seqio_tasks.fingerprint(unit.task, unit.split)
    else:
        task = registry.get_task(unit.task).fingerprint(
            unit.split,
            feature_lengths=unit.lengths,
            vocabulary=words,
            seed=unit.seed,
            data_dir=unit.data_dir,
            max_examples=unit.max_examples,
        )
    parts = {
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
    canonical = json.dumps(parts, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest(), parts


_PREPARING = ("unit.py", "render.py", "seqio_tasks.py", "tally.py", "../data/vocabulary.py")


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
    unit: Unit, words: Vocabulary, tally: Tally, meta: dict[str, Any]
) -> Iterator[store.Example]:
    """The unit's examples; at the end the counts go into `meta`, or lengths that fit nothing are refused."""
    if unit.bare:
        from flanx.prep import seqio_tasks

        yield from seqio_tasks.examples(unit, words, tally)
    else:
        from flanx.prep import render

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
