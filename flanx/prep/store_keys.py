"""Where a work item's store is: the key over everything that decides its bytes, its folder, and what is there."""

import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import flanx
from flanx import registry
from flanx.data import store
from flanx.data.request import safe_name
from flanx.data.vocabulary import Vocabulary
from flanx.prep.filtering import engine as filter_engine
from flanx.prep.work_item import WorkItem


def store_path(item: WorkItem, words: Vocabulary) -> str:
    """The folder of the item's store as things are now, relative to the cache folder; nothing is made."""
    return path_of(item, store_key(item, words)[0])


def path_of(item: WorkItem, key: str) -> str:
    return f"{safe_name(item.task)}/{safe_name(item.split)}-{key}"


def store_key(item: WorkItem, words: Vocabulary) -> tuple[str, dict[str, Any]]:
    """The key of the item's store, and everything that it hashes.

    Returns:
      16 hex digits of BLAKE2b over the canonical JSON of the second value.
    """
    if item.bare:
        from flanx.prep import seqio_tasks

        spec = None
        task = seqio_tasks.fingerprint(item.task, item.split)
    else:
        spec = registry.get_task(item.task)
        task = spec.fingerprint(
            item.split,
            feature_lengths=item.lengths,
            vocabulary=words,
            seed=item.seed,
            data_dir=item.data_dir,
            max_examples=item.max_examples,
        )
    made_of = {
        "task": item.task,
        "split": item.split,
        "source": task,
        "feature_lengths": dict(sorted(item.lengths.items())),
        "vocabulary": words.fingerprint,
        "seed": item.seed,
        "max_examples": item.max_examples,
        "for_eval": item.for_eval,
        "format_version": store.FORMAT_VERSION,
        "flanx_version": flanx.__version__,
        "engine": engine_fingerprint(),
    }
    if item.filters:
        made_of["filters"] = filter_engine.fingerprint(item.filters, item.overlaps, spec)
    canonical = json.dumps(made_of, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest(), made_of


_PREPARING = (
    *(
        "work_item.py",
        "store_keys.py",
        "worker.py",
        "parts.py",
        "render.py",
        "seqio_tasks.py",
        "tally.py",
    ),
    *("../data/vocabulary.py", "../data/long_texts.py"),
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
