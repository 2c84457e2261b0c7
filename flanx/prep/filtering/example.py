"""What a filter sees of an example."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Example:
    """One rendered example, before it is cut and stored.

    Attributes:
      task, split: where it belongs.
      index: place of its row in the split.
      inputs, targets: the texts that the model would see.
      input_tokens, target_tokens: how many tokens they have, uncut, without end-of-sequence.
      fields: the row's own fields; empty for a bare SeqIO task.
      options: the answers to choose from, where there are any.
    """

    task: str
    split: str
    index: int
    inputs: str
    targets: str
    input_tokens: int
    target_tokens: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] | None = None
