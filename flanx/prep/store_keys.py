"""Where a work item's store is: the key over everything that decides its bytes, its folder, and what is there."""

import hashlib
import json
from pathlib import Path
from typing import Any

from flanx import registry
from flanx.data import store
from flanx.data.request import safe_name
from flanx.data.vocabulary import Vocabulary
from flanx.prep import render, seqio_tasks
from flanx.prep.filtering import filter_keys
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
        "tokens_version": (seqio_tasks if item.bare else render).VERSION,
    }
    if item.filters:
        made_of["filters"] = filter_keys.fingerprint(item.filters, item.overlaps, spec)
    canonical = json.dumps(made_of, sort_keys=True)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest(), made_of


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
