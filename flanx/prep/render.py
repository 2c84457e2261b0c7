"""Examples of a flanx task: rendered in plain Python, tokenised in batches, cut to the feature lengths."""

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from flanx.data.store import Example
from flanx.data.vocabulary import Vocabulary
from flanx.prep.tally import EMPTY_TARGET, Tally
from flanx.registry import Dropped, Rendered

if TYPE_CHECKING:
    from flanx.prep.unit import Unit
    from flanx.registry import TaskSpec

_BATCH = 256  # texts a call to the tokeniser


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
    rows = spec.render(
        unit.split,
        feature_lengths=unit.lengths,
        vocabulary=vocabulary,
        seed=unit.seed,
        data_dir=unit.data_dir,
        max_examples=unit.max_examples,
    )
    for batch in _batches(rows):
        rendered = []
        for row in batch:
            if isinstance(row, Dropped):
                tally.dropped[row.reason] += 1
            else:
                rendered.append(row)
        yield from _tokenised(rendered, vocabulary, tally)


def _tokenised(rendered: list[Rendered], vocabulary: Vocabulary, tally: Tally) -> Iterator[Example]:
    inputs = vocabulary.encode_batch([row.inputs for row in rendered])
    targets = vocabulary.encode_batch([row.targets for row in rendered])
    end = vocabulary.eos_id
    for row, input_ids, target_ids in zip(rendered, inputs, targets, strict=True):
        if not target_ids:
            tally.dropped[EMPTY_TARGET] += 1
            continue
        tally.kept += 1
        yield Example(
            inputs=tally.fit("inputs", [*input_ids, end], end),
            targets=tally.fit("targets", [*target_ids, end], end),
            example_id=row.index,
            template=row.template,
            inputs_text=row.inputs,
            targets_text=row.references or (row.targets,),
            options=row.options,
        )


def _batches(rows: Iterable[Rendered | Dropped]) -> Iterator[list[Rendered | Dropped]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, _BATCH)):
        yield batch
