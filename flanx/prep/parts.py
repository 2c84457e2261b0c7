"""Large tasks in pieces: chunks of rows that several processes render, joined into the store that one would write.

    <cache_dir>/<task>/.parts-<split>-<key>/000000/  rows 0 to CHUNK - 1, a store folder like any other
                                            000001/  ...

Which process renders a chunk is no part of its name, so that an interrupted run resumes with any number of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx import registry, temporary
from flanx.data import store
from flanx.data.request import safe_name
from flanx.data.vocabulary import Vocabulary
from flanx.prep import render
from flanx.prep.render_stats import RenderStats

if TYPE_CHECKING:
    from flanx.prep.work_item import WorkItem
    from flanx.registry import TaskSpec

CHUNK = 4096  # rows; a whole number of the tokeniser's batches

NumberedRows = list[tuple[int, Any]]


def folder(item: "WorkItem", key: str) -> Path:
    """Where the chunks of the item's task lie until they are joined."""
    return Path(item.cache_dir) / safe_name(item.task) / f".parts-{safe_name(item.split)}-{key}"


def make(item: "WorkItem", words: Vocabulary, place: Path, key: str) -> int:
    """Renders chunks i, i + n, i + 2n ... for `item.shard` = (i, n), but for those that are there.

    Returns:
      How many chunks the task has altogether.
    """
    assert item.shard is not None
    spec = registry.get_task(item.task)
    renderer = render.renderer(spec, item, words)
    filters = render.row_filters(spec, item)
    temporary.sweep(place)

    def write(chunk: int, rows: NumberedRows) -> None:
        stats = RenderStats(item.lengths)
        meta: dict[str, Any] = {"task": item.task, "split": item.split, "key": f"{key} {chunk}"}

        def examples() -> Iterator[store.Example]:
            yield from render.of_rows(rows, renderer, words, stats, filters)
            meta["stats"] = stats.state()

        store.write(
            _part(place, chunk),
            examples(),
            meta,
            vocabulary_size=words.size,
            for_eval=item.for_eval,
        )

    if getattr(spec.source, "row_at", None) is not None:
        return _make_by_place(spec, item, place, write)
    return _make_in_passing(spec, item, place, write)


def _make_by_place(spec: "TaskSpec", item: "WorkItem", place: Path, write: Any) -> int:
    """For a source that gives any row without those before it."""
    first, step = item.shard or (0, 1)
    row_at = getattr(spec.source, "row_at")  # noqa: B009 - no part of the protocol
    count = spec.source.count(item.split, item.data_dir)
    if item.max_examples is not None:
        count = min(count, item.max_examples)
    for chunk in range(first, -(-count // CHUNK), step):
        if not _is_whole(_part(place, chunk)):
            span = range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK))
            write(chunk, [(index, row_at(item.split, index, item.data_dir)) for index in span])
    return -(-count // CHUNK)


def _make_in_passing(spec: "TaskSpec", item: "WorkItem", place: Path, write: Any) -> int:
    """For a source that is read from the start: every row is read, the own ones are rendered."""
    first, step = item.shard or (0, 1)
    kept: NumberedRows = []
    wanted = False
    count = 0
    for index, row in render.numbered_rows(spec, item):
        chunk, inside = divmod(index, CHUNK)
        if not inside:
            if kept:
                write(chunk - 1, kept)
                kept = []
            wanted = chunk % step == first and not _is_whole(_part(place, chunk))
        if wanted:
            kept.append((index, row))
        count += 1
    if kept:
        write((count - 1) // CHUNK, kept)
    return -(-count // CHUNK)


def opened(place: Path, count: int) -> list[store.TaskStore]:
    """All chunks, in order.

    Raises:
      StoreDamaged: one is missing, or not what was written.
    """
    return [store.open(_part(place, chunk)) for chunk in range(count)]


def counted(parts: list[store.TaskStore], stats: RenderStats) -> Iterator[store.TaskStore]:
    """The chunks, each with its counts added to `stats` before it is given."""
    for part in parts:
        stats.add(part.meta["stats"])
        yield part


def _part(place: Path, chunk: int) -> Path:
    return place / f"{chunk:06d}"


def _is_whole(part: Path) -> bool:
    try:
        store.open(part)
    except store.StoreDamaged:
        return False
    return True
