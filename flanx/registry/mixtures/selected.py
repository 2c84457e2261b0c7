"""A task that a mixture selects, and the rules by which it weighs."""

from dataclasses import dataclass

from flanx.registry.spec import TaskSpec


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


@dataclass(frozen=True)
class Selected:
    """A task of a mixture.

    Attributes:
      task: its name.
      spec: its TaskSpec; None for a task that other code registered with SeqIO.
      rules: how it weighs, one rule for each part that selects it.
    """

    task: str
    spec: TaskSpec | None
    rules: tuple[Rule, ...]

    @property
    def dataset(self) -> str:
        return self.spec.dataset if self.spec is not None else self.task

    @property
    def type(self) -> str | None:
        return self.spec.type if self.spec is not None else None

    @property
    def category(self) -> str | None:
        return self.spec.category if self.spec is not None else None
