"""Examples of a flanx task: rendered in plain Python, tokenised in batches, cut to the feature lengths."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flanx.data.long_texts import heads
from flanx.data.store import Example
from flanx.data.vocabulary import Vocabulary
from flanx.data.vocabulary.coverage import coverage
from flanx.prep.filtering.row_filters import RowFilters
from flanx.prep.render_stats import EMPTY_TARGET, RenderStats
from flanx.registry import Dropped, Rendered
from flanx.registry.rendering.renderer import Renderer
from flanx.registry.sources import Row

if TYPE_CHECKING:
    from flanx.prep.work_item import WorkItem
    from flanx.registry import TaskSpec

# In the key of every store that flanx tokenises. Raise it when the same rendered text is stored as other tokens, or
# dropped, cut or counted otherwise. `render_stats`, `flanx.data.long_texts` and the encoding of `flanx.data.vocabulary`
# belong to it.
VERSION = 1
_BATCH = 256  # texts a call to the tokeniser, or fewer where they are long:
_BATCH_CHARACTERS = 1 << 22


def examples(
    spec: "TaskSpec", item: "WorkItem", vocabulary: Vocabulary, stats: RenderStats
) -> Iterator[Example]:
    """Renders and tokenises the item's split of a flanx task.

    Args:
      spec: the task.
      item: split, lengths, seed and limits.
      vocabulary: tokeniser.
      stats: filled with what is dropped and clipped.
    """
    rows = numbered_rows(spec, item)
    return of_rows(
        rows, renderer(spec, item, vocabulary), vocabulary, stats, row_filters(spec, item)
    )


def row_filters(spec: "TaskSpec", item: "WorkItem") -> RowFilters | None:
    """The item's filters at work; None where it has none."""
    return RowFilters(item, spec) if item.filters else None


def renderer(spec: "TaskSpec", item: "WorkItem", vocabulary: Vocabulary) -> Renderer:
    """What renders single rows of the item's split."""
    return spec.renderer(
        item.split,
        feature_lengths=item.lengths,
        vocabulary=vocabulary,
        seed=item.seed,
        data_dir=item.data_dir,
    )


def numbered_rows(spec: "TaskSpec", item: "WorkItem") -> Iterator[tuple[int, Row]]:
    """The rows of the item's split with their places."""
    rows = spec.rows(item.split, item.data_dir)
    return enumerate(itertools.islice(rows, item.max_examples))


def of_rows(
    rows: Iterable[tuple[int, Row]],
    render: Renderer,
    vocabulary: Vocabulary,
    stats: RenderStats,
    filters: RowFilters | None = None,
) -> Iterator[Example]:
    """Renders and tokenises rows that come with their places in the split."""
    for batch in _batches(rows, render, stats):
        wanted = filters is not None and filters.needs_fields
        fields = [render.fields(one.index, row) if wanted else None for one, row in batch]
        yield from _tokenised([one for one, _ in batch], fields, vocabulary, stats, filters)


def _tokenised(
    rendered: list[Rendered],
    fields: list[dict[str, Any] | None],
    vocabulary: Vocabulary,
    stats: RenderStats,
    filters: RowFilters | None,
) -> Iterator[Example]:
    lengths = stats.lengths
    inputs = heads(vocabulary, [row.inputs for row in rendered], lengths["inputs"])
    targets = heads(vocabulary, [row.targets for row in rendered], lengths["targets"])
    end = vocabulary.eos_id
    kept: list[str] = []
    for row, own, asked, answered in zip(rendered, fields, inputs, targets, strict=True):
        if not answered.tokens:
            stats.dropped[EMPTY_TARGET] += 1
            continue
        if filters is not None:
            tokens = (asked.tokens, answered.tokens)
            why = filters.reason(row.index, row.inputs, row.targets, tokens, own, row.options)
            if why is not None:
                stats.dropped[why] += 1
                continue
        stats.kept += 1
        kept += (row.inputs, row.targets)
        yield Example(
            inputs=stats.fit("inputs", [*asked.ids, end], end, asked.tokens + 1),
            targets=stats.fit("targets", [*answered.ids, end], end, answered.tokens + 1),
            example_id=row.index,
            template=row.template,
            inputs_text=row.inputs,
            targets_text=row.references or (row.targets,),
            options=row.options,
        )
    stats.unwritable.update(coverage(vocabulary).lost(kept))


def _batches(
    rows: Iterable[tuple[int, Row]], render: Renderer, stats: RenderStats
) -> Iterator[list[tuple[Rendered, Row]]]:
    """Rows that make examples, rendered, in lists that are neither long nor large."""
    batch: list[tuple[Rendered, Row]] = []
    size = 0
    for index, row in rows:
        one = render(index, row)
        if isinstance(one, Dropped):
            stats.dropped[one.reason] += 1
            continue
        batch.append((one, row))
        size += len(one.inputs) + len(one.targets)
        if len(batch) == _BATCH or size > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
