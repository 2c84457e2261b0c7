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
from flanx.data.filters import DUPLICATES, Decontaminate, to_json
from flanx.data.request import StoreRequest, safe_name
from flanx.errors import UserError
from flanx.prep.filtering import duplicates, overlap
from flanx.prep.filtering.overlap import Overlap
from flanx.prep.filtering.sketch import Sketch
from flanx.prep.progress import Progress
from flanx.prep.unit import meta_of

if TYPE_CHECKING:
    from flanx.data.vocabulary import Vocabulary
    from flanx.prep.plan import Plan
    from flanx.prep.unit import Result, Unit
    from flanx.registry import Selected


def with_filters(
    request: StoreRequest,
    selected: Sequence["Selected"],
    units: Sequence["Unit"],
    words: "Vocabulary",
) -> tuple[tuple["Unit", ...], tuple[Overlap, ...]]:
    """The request's units with what its filters need of them.

    Args:
      request: the request.
      selected: its tasks.
      units: one a task.
      words: its vocabulary.

    Returns:
      The units, and what each Decontaminate compares with; `index_overlaps` has to run before the units do.

    Raises:
      UserError: two filters of one kind for duplicates, or evaluation tasks that are not there.
    """
    if not request.filters:
        return tuple(units), ()
    across = tuple(one for one in request.filters if isinstance(one, DUPLICATES))
    for kind in DUPLICATES:
        if sum(isinstance(one, kind) for one in across) > 1:
            raise UserError(
                f"'{request.mixture}' has several {kind.__name__} filters; keep the one that drops most"
            )
    rowwise = tuple(one for one in request.filters if not isinstance(one, DUPLICATES))
    overlaps = tuple(
        overlap.resolve(one, request, words, units[0])
        for one in rowwise
        if isinstance(one, Decontaminate)
    )
    sketched: set[str] = set()
    found = []
    for one, unit in zip(selected, units, strict=True):
        first = one.dataset not in sketched
        sketched.add(one.dataset)
        paths = tuple(o.path for o in overlaps)
        found.append(replace(unit, filters=rowwise, overlaps=paths, sketch=across if first else ()))
    return tuple(found), overlaps


def index_overlaps(plan: "Plan", progress: Progress) -> None:
    """Writes the indexes that the plan's Decontaminate filters read, where they are not there yet."""
    for one in plan.overlaps:
        unit = plan.units[0]
        names = ", ".join(one.settings.against)
        progress.doing(f"reading {names} ({one.settings.split}) to compare with")
        if not one.make(unit.cache_dir, plan.vocabulary, unit.force):
            progress.warn(
                f"Decontaminate: {names} ({one.settings.split}) has no text of {one.settings.shortest} "
                "words or more, so nothing is compared; set `shortest` lower"
            )


def without_duplicates(
    plan: "Plan", results: Mapping[tuple, "Result"], progress: Progress
) -> Mapping[tuple, "Result"]:
    """Applies the request's duplicate filters to the stores that its units have made.

    Args:
      plan: the request's.
      results: of all its units, by identity; those of other requests are passed on.
      progress: told how far a large mixture is, and how much went.

    Returns:
      The results, where rows went with the new store's path and meta.json.

    Raises:
      OSError: the disk is full, say.
    """
    filters = [one for one in plan.request.filters if isinstance(one, DUPLICATES)]
    if not filters:
        return results
    datasets: dict[str, list[Unit]] = {}
    for one, unit in zip(plan.selected, plan.units, strict=True):
        datasets.setdefault(one.dataset, []).append(unit)
    sketches = []
    present = []
    for units in datasets.values():
        sketch = Sketch(Path(units[0].cache_dir) / str(results[units[0].identity].sketch))
        sketches.append(sketch)
        present.append(_present(sketch, units, results))
    rows = duplicates.Rows(sketches, present)
    found = duplicates.find(rows, filters, progress.doing, progress.warn)
    counted = {name: len(gone) for name, gone in found.items()}
    total = int(sum(map(np.sum, present)))
    for name, count in counted.items():
        progress.warn(f"{name}: {count:,} of {total:,} rows")
    replaced = dict(results)
    starts = rows.starts
    for number, units in enumerate(datasets.values()):
        begin, end = starts[number], starts[number + 1]
        gone = {
            name: sketches[number].ids[places[(places >= begin) & (places < end)] - begin]
            for name, places in found.items()
        }
        if not any(map(len, gone.values())):
            continue
        for unit in units:
            settings = [to_json(one) for one in filters]
            replaced[unit.identity] = _derived(
                unit, results[unit.identity], gone, settings, progress
            )
    return replaced


def _present(
    sketch: Sketch, units: Sequence["Unit"], results: Mapping[tuple, "Result"]
) -> np.ndarray:
    """np.bool_[n]: which rows of the sketch are in any of the dataset's stores."""
    found = np.zeros(len(sketch.ids), np.bool_)
    for unit in units:
        result = results[unit.identity]
        if result.meta["examples"] == len(found):  # all of them
            return np.ones_like(found)
        ids = store.open(Path(unit.cache_dir) / result.path).example_ids
        found[np.searchsorted(sketch.ids, ids)] = True
    return found


def _derived(
    unit: "Unit",
    result: "Result",
    gone: Mapping[str, np.ndarray],
    settings: Sequence[Mapping[str, Any]],
    progress: Progress,
) -> "Result":
    """The result with its store less the rows that are gone; the same one where none of them is in it."""
    source = store.open(Path(unit.cache_dir) / result.path)
    counts = {name: int(np.isin(source.example_ids, ids).sum()) for name, ids in gone.items()}
    if not any(counts.values()):
        return result
    kept = ~np.isin(source.example_ids, np.concatenate(list(gone.values())))
    base = result.meta["key"]
    digest = hashlib.blake2b(json.dumps([base, counts]).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(source.example_ids[kept]).data)
    key = digest.hexdigest()
    path = f"{safe_name(unit.task)}/{safe_name(unit.split)}-{key}"
    folder = Path(unit.cache_dir) / path
    if unit.force:
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.is_dir():
        try:
            return replace(result, path=path, meta=meta_of(folder, unit.verify), written=False)
        except store.StoreDamaged as damage:
            progress.warn(f"'{unit.task}' was damaged and is made anew: {damage}")
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
