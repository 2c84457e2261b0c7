"""Counts of what happened to a task's rows on their way to the store, and the one place that cuts tokens."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flanx.data.vocabulary.coverage import Unwritable
from flanx.errors import UserError

EMPTY_TARGET = "empty target"


@dataclass
class RenderStats:
    """What was dropped, what was clipped, and how long the features were before.

    Attributes:
      lengths: most tokens of each feature.
      kept: examples that reach the store.
      dropped: rows that do not, by reason.
      clipped: examples that were cut, by feature.
      longest: most tokens of each feature before cutting, end-of-sequence included.
      shortest_target: fewest tokens of a target before cutting.
      unwritable: characters of their texts that the vocabulary cannot write, and how often each occurs.
    """

    lengths: Mapping[str, int]
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    clipped: Counter[str] = field(default_factory=Counter)
    longest: dict[str, int] = field(default_factory=lambda: {"inputs": 0, "targets": 0})
    shortest_target: int | None = None
    unwritable: Counter[str] = field(default_factory=Counter)

    def fit(
        self, feature: str, tokens: list[int], end: int | None, whole: int | None = None
    ) -> list[int]:
        """`tokens` cut to the feature's length and counted; a cut feature still ends in `end` if given.

        As seqio.preprocessors.append_eos_after_trim has it: the last token of a cut example is EOS.

        Args:
          feature: "inputs" or "targets".
          tokens: the feature's tokens.
          end: the id of EOS; None where the feature has none.
          whole: how many tokens there were, where somebody has cut them before.
        """
        length = self.lengths[feature]
        size = len(tokens) if whole is None else whole
        self.longest[feature] = max(self.longest[feature], size)
        if feature == "targets" and (self.shortest_target is None or size < self.shortest_target):
            self.shortest_target = size
        if size > length:
            self.clipped[feature] += 1
        if len(tokens) <= length:
            return tokens
        return tokens[:length] if end is None else [*tokens[: length - 1], end]

    def check(self, task: str, split: str) -> None:
        """Refuses lengths that leave no target whole.

        Raises:
          UserError: every target of the split was cut; names the task, the lengths and what is needed.
        """
        if self.kept and self.clipped["targets"] == self.kept:
            lengths = ", ".join(f"{name}={length}" for name, length in self.lengths.items())
            raise UserError(
                f"all {self.kept} targets of '{task}' ({split}) are longer than the feature lengths "
                f"{lengths} allow: the shortest has {self.shortest_target} tokens and the longest "
                f"{self.longest['targets']}, EOS included; set targets in TASK_FEATURE_LENGTHS to "
                f"{self.shortest_target} at least"
            )

    def state(self) -> dict[str, Any]:
        """All counts, for `add`: of a part of the rows."""
        return {
            **self.to_json(),
            "kept": self.kept,
            "shortest_target": self.shortest_target,
            "unwritable": dict(self.unwritable),
        }

    def add(self, state: Mapping[str, Any]) -> None:
        """Adds the counts of another part of the rows."""
        self.kept += state["kept"]
        self.dropped.update(state["dropped"])
        self.clipped.update(state["clipped"])
        self.unwritable.update(state.get("unwritable", {}))
        for name, most in state["longest"].items():
            self.longest[name] = max(self.longest[name], most)
        shortest = [n for n in (self.shortest_target, state["shortest_target"]) if n is not None]
        self.shortest_target = min(shortest, default=None)

    def to_json(self) -> dict[str, dict[str, Any]]:
        """What meta.json keeps."""
        return {
            "dropped": dict(sorted(self.dropped.items())),
            "clipped": {name: self.clipped[name] for name in self.lengths},
            "longest": dict(self.longest),
            "unwritable": Unwritable.of(self.unwritable).to_json(),
        }
