"""What one playground task is, before it is registered."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from flanx.registry.draws import Draws
from flanx.tasks.playground_parts.rows import Row, draw


@dataclass(frozen=True)
class Exercise:
    """One dataset of the playground.

    Attributes:
      name: its name after `playground.`.
      category: what it is an exercise in.
      make: draws one row: the fields of the templates, with "answer", the question's "key" and, where an answer is
        to be chosen, "options"; with "rationale" where there is a reason to give.
      prompts: texts of its zero-shot templates.
      target: what is to be written, the answer unless said.
      inverted: pairs of texts, input and target, that ask the other way round.
      held_out: never trained on.
      rows_of: the exercise whose rows and splits this one shares, where that is another.
      weight: of the dataset in the training mixture.
      rows: how many train and validation rows there are, no two the same question.
    """

    name: str
    category: str
    make: Callable[[Draws], Row]
    prompts: tuple[str, ...]
    target: str = "{answer}"
    inverted: tuple[tuple[str, str], ...] = ()
    held_out: bool = False
    rows_of: str | None = None
    weight: float = 1.0
    rows: tuple[int, int] = (800, 100)

    def row(self, split: str, index: int) -> Row:
        """Row `index` of a split; a held-out exercise needs no split, and asks anything in its only one."""
        return draw(self.make, self.rows_of or self.name, split, index, self.held_out)

    def explained(self, name: str) -> "Exercise":
        """The same questions, to be answered with the reasoning first."""
        prompts = tuple(f"Explain your answer.\n{text}" for text in self.prompts)
        return replace(
            self,
            name=name,
            prompts=prompts,
            target="{rationale} The answer is {answer}.",
            rows_of=self.name,
        )
