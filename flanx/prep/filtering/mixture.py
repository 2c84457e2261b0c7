"""Duplicates of a whole mixture: found once all of its tasks are stored, and left out of the stores that hold them.

A task that loses rows gets a store of its own beside the one it had, `<task>/<split>-<key>` with a key over the first
store's and the rows that went; a task that loses none keeps what it has. A row stands for all its renderings, which go
or stay together, in every template type of its dataset.
"""

import hashlib
import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flanx.data import store
from flanx.data.filters import DUPLICATES, to_json
from flanx.data.request import safe_name
from flanx.prep.filtering import duplicates
from flanx.prep.filtering.sketch import Sketch
from flanx.prep.progress import Progress
from flanx.prep.store_keys import meta_of

if TYPE_CHECKING:
    from flanx.prep.cache_plan import CachePlan
    from flanx.prep.work_item import WorkItem, WorkResult


def index_overlaps(plan: "CachePlan", progress: Progress) -> None:
    """Writes the indexes that the plan's Decontaminate filters read, where they are not there yet."""
    for one in plan.overlaps:
        item = plan.items[0]
        names = ", ".join(one.settings.against)
        progress.doing(f"reading {names} ({one.settings.split}) to compare with")
        if not one.make(item.cache_dir, plan.vocabulary, item.force):
            progress.warn(
                f"Decontaminate: {names} ({one.settings.split}) has no text of {one.settings.shortest} "
                "words or more, so nothing is compared; set `shortest` lower"
            )


def without_duplicates(
    plan: "CachePlan", results: Mapping[tuple, "WorkResult"], progress: Progress
) -> Mapping[tuple, "WorkResult"]:
    """Applies the request's duplicate filters to the stores that its items have made.

    Args:
      plan: the request's.
      results: of all its items, by identity; those of other requests are passed on.
      progress: told how far a large mixture is, and how much went.

    Returns:
      The results, where rows went with the new store's path and meta.json.

    Raises:
      OSError: the disk is full, say.
    """
    filters = [one for one in plan.request.filters if isinstance(one, DUPLICATES)]
    if not filters:
        return results
    datasets: dict[str, list[WorkItem]] = {}
    for one, item in zip(plan.selected, plan.items, strict=True):
        datasets.setdefault(one.dataset, []).append(item)
    sketches = []
    present = []
    for items in datasets.values():
        sketch = Sketch(Path(items[0].cache_dir) / str(results[items[0].identity].sketch))
        sketches.append(sketch)
        present.append(_present(sketch, items, results))
    rows = duplicates.MixtureRows(sketches, present)
    found = duplicates.find(rows, filters, progress.doing, progress.warn)
    counted = {name: len(gone) for name, gone in found.items()}
    total = int(sum(map(np.sum, present)))
    for name, count in counted.items():
        progress.warn(f"{name}: {count:,} of {total:,} rows")
    replaced = dict(results)
    starts = rows.starts
    for number, items in enumerate(datasets.values()):
        begin, end = starts[number], starts[number + 1]
        gone = {
            name: sketches[number].ids[places[(places >= begin) & (places < end)] - begin]
            for name, places in found.items()
        }
        if not any(map(len, gone.values())):
            continue
        for item in items:
            settings = [to_json(one) for one in filters]
            replaced[item.identity] = _derived(
                item, results[item.identity], gone, settings, progress
            )
    return replaced


def _present(
    sketch: Sketch, items: Sequence["WorkItem"], results: Mapping[tuple, "WorkResult"]
) -> np.ndarray:
    """np.bool_[n]: which rows of the sketch are in any of the dataset's stores."""
    found = np.zeros(len(sketch.ids), np.bool_)
    for item in items:
        result = results[item.identity]
        if result.meta["examples"] == len(found):  # all of them
            return np.ones_like(found)
        ids = store.open(Path(item.cache_dir) / result.path).example_ids
        found[np.searchsorted(sketch.ids, ids)] = True
    return found


def _derived(
    item: "WorkItem",
    result: "WorkResult",
    gone: Mapping[str, np.ndarray],
    settings: Sequence[Mapping[str, Any]],
    progress: Progress,
) -> "WorkResult":
    """The result with its store less the rows that are gone; the same one where none of them is in it."""
    source = store.open(Path(item.cache_dir) / result.path)
    counts = {name: int(np.isin(source.example_ids, ids).sum()) for name, ids in gone.items()}
    if not any(counts.values()):
        return result
    kept = ~np.isin(source.example_ids, np.concatenate(list(gone.values())))
    base = result.meta["key"]
    digest = hashlib.blake2b(json.dumps([base, counts]).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(source.example_ids[kept]).data)
    key = digest.hexdigest()
    path = f"{safe_name(item.task)}/{safe_name(item.split)}-{key}"
    folder = Path(item.cache_dir) / path
    if item.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        try:
            return replace(result, path=path, meta=meta_of(folder, item.verify), written=False)
        except store.StoreDamaged as damage:
            progress.warn(f"'{item.task}' was damaged and is made anew: {damage}")
            shutil.rmtree(folder, ignore_errors=True)
    meta = {
        **{name: result.meta[name] for name in ("task", "split", "clipped", "longest")},
        "unwritable": result.meta.get("unwritable"),
        "key": key,
        "made_of": {"base": base, "filters": list(settings)},
        "dropped": {**result.meta["dropped"], **{n: c for n, c in counts.items() if c}},
    }
    whole = store.write(
        folder,
        itertools.compress(source.rows(), kept.tolist()),
        meta,
        vocabulary_size=1 << 16 if result.meta["token_type"] == "uint16" else 1 << 32,
        for_eval=source.has_text,
    )
    return replace(result, path=path, meta=whole, written=True)
