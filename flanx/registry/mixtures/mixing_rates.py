"""Mixing rates, from rules and example counts, in time linear in the number of tasks."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from flanx.registry.mixtures.selected import Selected

# In the fingerprint of every manifest. Raise it when the same rules and counts give other rates.
VERSION = 1


def rates(selected: Sequence[Selected], counts: Mapping[str, int]) -> dict[str, float]:
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
