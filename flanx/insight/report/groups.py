"""Tasks put together by source, template type, category or dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flanx.insight.planned import Exposure
from flanx.insight.survey import TaskFacts


@dataclass(frozen=True)
class Group:
    """Some tasks as one. Means and cut shares are over the examples that training meets, so large rates weigh more.

    Attributes:
      name: what they have in common.
      tasks, examples: how many.
      share, loss_share: of the training examples, and of their target tokens.
      epochs: times that the run reads each example, on average; None where steps are not known.
      mean_inputs, mean_targets: tokens.
      clipped_inputs, clipped_targets: share of the examples that were cut.
      dropped: rows that did not reach the store.
    """

    name: str
    tasks: int
    examples: int
    share: float
    loss_share: float
    epochs: float | None
    mean_inputs: float
    mean_targets: float
    clipped_inputs: float
    clipped_targets: float
    dropped: int


def grouped(
    tasks: Sequence[TaskFacts], key: Callable[[TaskFacts], str], exposure: Exposure
) -> list[Group]:
    """The groups, the largest share first."""
    members: dict[str, list[TaskFacts]] = {}
    for task in tasks:
        members.setdefault(key(task), []).append(task)
    groups = [_group(name, its, exposure) for name, its in members.items()]
    return sorted(groups, key=lambda group: (-group.share, group.name))


def _group(name: str, tasks: Sequence[TaskFacts], exposure: Exposure) -> Group:
    share = sum(task.share for task in tasks)
    examples = sum(task.entry.examples for task in tasks)

    def mean(attribute: str) -> float:
        if not share:
            return 0.0
        return sum(task.share * getattr(task, attribute) for task in tasks) / share

    return Group(
        name=name,
        tasks=len(tasks),
        examples=examples,
        share=share,
        loss_share=sum(task.loss_share for task in tasks),
        epochs=None if exposure.seen is None else exposure.seen * share / max(examples, 1),
        mean_inputs=mean("mean_inputs"),
        mean_targets=mean("mean_targets"),
        clipped_inputs=mean("clipped_inputs"),
        clipped_targets=mean("clipped_targets"),
        dropped=sum(sum(task.dropped.values()) for task in tasks),
    )
