"""Mixing rates, from rules and example counts, in time linear in the number of tasks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flanx.registry.selection import Selected

# In the fingerprint of every manifest. Raise it when the same rules and counts give other rates.
VERSION = 1


@dataclass(frozen=True)
class Group:
    """Tasks that weigh `total` together, or as much as they come to where it is None."""

    name: str
    total: float | None = None


@dataclass(frozen=True)
class Rule:
    """How one selected task weighs in one part of a mixture.

    Attributes:
      rate: weight; None for the number of examples.
      cap: bound of that number, or None.
      fraction: this task's share of its dataset's weight.
      groups: the groups that the task is in, the widest first.
      temperature: the number, capped, is taken to the power of 1 / temperature: 1 mixes in proportion to size, and the
        higher, the more alike all tasks weigh (SeqIO's `mixing_rate_num_examples`).
    """

    rate: float | None = None
    cap: int | None = None
    fraction: float = 1.0
    groups: tuple[Group, ...] = ()
    temperature: float = 1.0

    def weight(self, examples: int) -> float:
        """Weight before the groups' totals: 0 without examples."""
        if examples <= 0:
            return 0.0
        if self.rate is not None:
            return self.rate * self.fraction
        capped = examples if self.cap is None else min(examples, self.cap)
        flattened = capped if self.temperature == 1 else capped ** (1 / self.temperature)
        return flattened * self.fraction


def rates(selected: Sequence["Selected"], counts: Mapping[str, int]) -> dict[str, float]:
    """The mixing rate of each selected task: relative weights, not normalised over the whole.

    Args:
      selected: what `resolve` gave.
      counts: examples of each task; a task without examples has rate 0.

    Returns:
      Rates by task name, in the order of `selected`.
    """
    rules = [(one.task, rule) for one in selected for rule in one.rules]
    weights = [rule.weight(counts.get(task, 0)) for task, rule in rules]
    depth = max((len(rule.groups) for _, rule in rules), default=0)
    for level in reversed(range(depth)):  # inner groups first: an outer total spreads over them
        sums: defaultdict[str, float] = defaultdict(float)
        for (_, rule), weight in zip(rules, weights, strict=True):
            if len(rule.groups) > level:
                sums[rule.groups[level].name] += weight
        for place, (_, rule) in enumerate(rules):
            if len(rule.groups) > level and weights[place]:
                group = rule.groups[level]
                if group.total is not None:
                    weights[place] *= group.total / sums[group.name]
    result = {one.task: 0.0 for one in selected}
    for (task, _), weight in zip(rules, weights, strict=True):
        result[task] += weight
    return result
