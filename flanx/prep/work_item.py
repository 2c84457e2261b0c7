"""A work item: one split of one task, or a part of a large one, that a worker makes a store of; and how that ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flanx.data.filters import Filter


@dataclass(frozen=True)
class WorkItem:
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
      sketch: duplicate filters for which this item sketches its dataset's rows.
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
        """Equal for two items that would write the same files."""
        lengths = tuple(sorted(self.lengths.items()))
        return (
            *(self.task, self.split, lengths, self.vocabulary, self.cache_dir, self.data_dir),
            *(self.seed, self.max_examples, self.for_eval),
            *(self.filters, self.overlaps, self.sketch),
        )


@dataclass(frozen=True)
class WorkResult:
    """How an item ended.

    Attributes:
      item: the item.
      path: store folder, relative to the cache folder.
      meta: its meta.json.
      written: False where a whole store was there already.
      repaired: why a store that was there had to be written anew.
      failure: what went wrong, in one line; None where nothing did.
      disk_full: the failure is that no space is left.
      seconds: wall time.
      parts: how many parts its task has, where the item was a shard that rendered some.
      sketch: the dataset's sketch, relative to the cache folder, where the item was to make it.
    """

    item: WorkItem
    path: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)
    written: bool = False
    repaired: str | None = None
    failure: str | None = None
    disk_full: bool = False
    seconds: float = 0.0
    parts: int | None = None
    sketch: str | None = None
