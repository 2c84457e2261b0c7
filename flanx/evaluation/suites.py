"""What to evaluate: a suite is a named set of tasks and how they are run."""

from collections.abc import Mapping
from dataclasses import dataclass

from flanx import field_types
from flanx.errors import UserError


@dataclass(frozen=True)
class EvalSuite:
    """Tasks that are evaluated together and averaged under one name.

    Attributes:
      name: names the suite in metrics (`<name>/<task>/<metric>`), the summary and the plot.
      mixture: mixture, dataset, task, or a glob over them; None for the mixture trained on.
      split: split of those tasks.
      feature_lengths: most tokens of an example, `{"inputs": n, "targets": m}`; None for those
        of training.
      num_tasks: only this many datasets of the mixture; None for all, or for as many as are
        trained on where it is the mixture trained on.
      template_types: template types to ask in, None for all at equal shares.
      max_examples: most examples of each task, None for all.
      generate: also answer and score the answers; False for teacher-forced loss and ranking alone.
      max_decode_length: most tokens of an answer; None for the suite's targets length.
      batch_size: rows of a batch.
    """

    name: str
    mixture: str | None = None
    split: str = "validation"
    feature_lengths: Mapping[str, int] | None = None
    num_tasks: int | None = None
    template_types: Mapping[str, float] | tuple[str, ...] | None = None
    max_examples: int | None = None
    generate: bool = True
    max_decode_length: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        field_types.check(self)
        if not self.name or "/" in self.name:
            raise UserError(
                f"EvalSuite.name = {self.name!r}: a suite needs a name, without '/'"
                " (metrics are named <suite>/<task>/<metric>)"
            )
        for label in ("batch_size", "max_decode_length", "max_examples", "num_tasks"):
            value = getattr(self, label)
            if value is not None and value < 1:
                raise UserError(
                    f"EvalSuite.{label} = {value} of suite '{self.name}': give 1 or more"
                )
