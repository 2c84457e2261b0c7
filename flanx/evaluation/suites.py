"""What to evaluate: a suite is a named set of tasks and how they are run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flanx import field_types
from flanx.errors import UserError
from flanx.terminal import plural

if TYPE_CHECKING:
    from flanx.data.manifest import Manifest

TRAINED = "trained"


@dataclass(frozen=True)
class EvalSuite:
    """Tasks that are evaluated together and averaged under one name.

    Attributes:
      name: names the suite in metrics (`<name>/<task>/<metric>`), the summary and the plot.
      mixture: mixture, dataset, task, or a glob over them; None for the mixture trained on.
      split: split of those tasks.
      feature_lengths: most tokens of an example, `{"inputs": n, "targets": m}`; None for those
        of training.
      num_tasks: only this many datasets of the mixture, nested; None for all, whatever NUM_TASKS says, so that runs
        with other numbers of tasks answer the same questions; TRAINED for the datasets trained on, where it is the
        mixture trained on: the questions then change with NUM_TASKS.
      template_types: template types to ask in, None for all: each weighs 1, and `inv` 0.3.
      max_examples: most examples of each task, None for all.
      generate: also answer and score the answers; False for teacher-forced loss and ranking alone.
      max_decode_length: most tokens of an answer; None for the suite's targets length.
      batch_size: rows of a batch.
    """

    name: str
    mixture: str | None = None
    split: str = "validation"
    feature_lengths: Mapping[str, int] | None = None
    num_tasks: int | Literal["trained"] | None = None
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
            if label == "num_tasks" and isinstance(value, str):
                if value != TRAINED:
                    raise UserError(
                        f"EvalSuite.num_tasks = {value!r} of suite '{self.name}': give a number, None for all "
                        f"datasets, or '{TRAINED}' for those trained on"
                    )
                continue
            if value is not None and value < 1:
                raise UserError(
                    f"EvalSuite.{label} = {value} of suite '{self.name}': give 1 or more"
                )


def check(suites: Sequence[EvalSuite]) -> None:
    """Refuses two suites of one name, whose scores could not be told apart.

    Raises:
      UserError: naming it.
    """
    names = [suite.name for suite in suites]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two evaluation suites are named '{twice}'; give each its own name")


def scopes(
    suites: Sequence[EvalSuite], manifests: Sequence["Manifest"], training: "Manifest"
) -> list[str]:
    """Says which datasets a suite of the mixture trained on asks, where NUM_TASKS makes a difference.

    Args:
      suites: what is evaluated.
      manifests: of their stores.
      training: of the data trained on.

    Returns:
      Lines for the user.
    """
    known = {entry.dataset for entry in training.entries}
    out = []
    for suite, manifest in zip(suites, manifests, strict=True):
        asked = {entry.dataset for entry in manifest.entries}
        trained = len(asked & known)
        if suite.num_tasks == TRAINED:
            out.append(
                f"suite '{suite.name}' asks the {plural(trained, 'dataset')} trained on "
                f"(EvalSuite.num_tasks = '{TRAINED}'): its scores compare with those of runs on the same ones alone"
            )
        elif suite.mixture in (None, training.mixture) and trained < len(asked):
            out.append(
                f"suite '{suite.name}' asks {plural(len(asked), 'dataset')} whatever NUM_TASKS is, "
                f"{trained:,} of them trained on; EvalSuite.num_tasks = '{TRAINED}' asks those alone"
            )
    return out
