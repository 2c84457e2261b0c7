"""Examples of a flanx task: rendered in plain Python, tokenised in batches, cut to the feature lengths."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flanx.data.long_texts import heads
from flanx.data.store import Example
from flanx.data.vocabulary import Vocabulary
from flanx.data.vocabulary.coverage import coverage
from flanx.prep.filtering.sieve import Sieve
from flanx.prep.tally import EMPTY_TARGET, Tally
from flanx.registry import Dropped, Rendered
from flanx.registry.rendering import Renderer
from flanx.registry.sources import Row

if TYPE_CHECKING:
    from flanx.prep.unit import Unit
    from flanx.registry import TaskSpec

_BATCH = 256  # texts a call to the tokeniser, or fewer where they are long:
_BATCH_CHARACTERS = 1 << 22


def examples(
    spec: "TaskSpec", unit: "Unit", vocabulary: Vocabulary, tally: Tally
) -> Iterator[Example]:
    """Renders and tokenises the unit's split of a flanx task.

    Args:
      spec: the task.
      unit: split, lengths, seed and limits.
      vocabulary: tokeniser.
      tally: filled with what is dropped and clipped.
    """
    rows = numbered_rows(spec, unit)
    return of_rows(rows, renderer(spec, unit, vocabulary), vocabulary, tally, sieve(spec, unit))


def sieve(spec: "TaskSpec", unit: "Unit") -> Sieve | None:
    """The unit's filters at work; None where it has none."""
    return Sieve(unit, spec) if unit.filters else None


def renderer(spec: "TaskSpec", unit: "Unit", vocabulary: Vocabulary) -> Renderer:
    """What renders single rows of the unit's split."""
    return spec.renderer(
        unit.split,
        feature_lengths=unit.lengths,
        vocabulary=vocabulary,
        seed=unit.seed,
        data_dir=unit.data_dir,
    )


def numbered_rows(spec: "TaskSpec", unit: "Unit") -> Iterator[tuple[int, Row]]:
    """The rows of the unit's split with their places."""
    rows = spec.rows(unit.split, unit.data_dir)
    return enumerate(itertools.islice(rows, unit.max_examples))


def of_rows(
    rows: Iterable[tuple[int, Row]],
    render: Renderer,
    vocabulary: Vocabulary,
    tally: Tally,
    sieve: Sieve | None = None,
) -> Iterator[Example]:
    """Renders and tokenises rows that come with their places in the split."""
    for batch in _batches(rows, render, tally):
        wanted = sieve is not None and sieve.needs_fields
        fields = [render.fields(one.index, row) if wanted else None for one, row in batch]
        yield from _tokenised([one for one, _ in batch], fields, vocabulary, tally, sieve)


def _tokenised(
    rendered: list[Rendered],
    fields: list[dict[str, Any] | None],
    vocabulary: Vocabulary,
    tally: Tally,
    sieve: Sieve | None,
) -> Iterator[Example]:
    lengths = tally.lengths
    inputs = heads(vocabulary, [row.inputs for row in rendered], lengths["inputs"])
    targets = heads(vocabulary, [row.targets for row in rendered], lengths["targets"])
    end = vocabulary.eos_id
    kept: list[str] = []
    for row, own, asked, answered in zip(rendered, fields, inputs, targets, strict=True):
        if not answered.tokens:
            tally.dropped[EMPTY_TARGET] += 1
            continue
        if sieve is not None:
            tokens = (asked.tokens, answered.tokens)
            why = sieve.reason(row.index, row.inputs, row.targets, tokens, own, row.options)
            if why is not None:
                tally.dropped[why] += 1
                continue
        tally.kept += 1
        kept += (row.inputs, row.targets)
        yield Example(
            inputs=tally.fit("inputs", [*asked.ids, end], end, asked.tokens + 1),
            targets=tally.fit("targets", [*answered.ids, end], end, answered.tokens + 1),
            example_id=row.index,
            template=row.template,
            inputs_text=row.inputs,
            targets_text=row.references or (row.targets,),
            options=row.options,
        )
    tally.unwritable.update(coverage(vocabulary).lost(kept))


def _batches(
    rows: Iterable[tuple[int, Row]], render: Renderer, tally: Tally
) -> Iterator[list[tuple[Rendered, Row]]]:
    """Rows that make examples, rendered, in lists that are neither long nor large."""
    batch: list[tuple[Rendered, Row]] = []
    size = 0
    for index, row in rows:
        one = render(index, row)
        if isinstance(one, Dropped):
            tally.dropped[one.reason] += 1
            continue
        batch.append((one, row))
        size += len(one.inputs) + len(one.targets)
        if len(batch) == _BATCH or size > _BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
