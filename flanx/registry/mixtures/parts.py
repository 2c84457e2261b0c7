"""What a mixture is: its parts, by pattern, and by which rule each weighs."""

import math
import numbers
from dataclasses import dataclass
from typing import Any

from flanx.errors import UserError


@dataclass(frozen=True)
class Part:
    """A part of a mixture: datasets, tasks or another mixture, and their weight.

    A dataset's weight is spread over its selected template types by the types' shares (1 each, 0.3 for `inv`, unless
    the reader of the mixture says otherwise), so that a dataset of many types weighs no more than one of few.

    Attributes:
      pattern: name or glob of datasets (`niv2.*`) or tasks (`niv2.*.zs_opt`), or the name of a mixture.
      rate: weight of each dataset; of a mixture, its whole weight. None: by the number of examples.
      cap: the number of examples counts up to here; None for the mixture's cap.
      temperature: the number of examples weighs as its power 1 / temperature, after the cap: 1 in proportion to size,
        higher more evenly; None for the mixture's temperature.
      share: weight of the whole part; then every part of the mixture has a share.
      exclude: names or globs, of datasets or tasks, to leave out.
      present_only: leave out the tasks whose files are not there, as long as one is; otherwise a missing file is an
        error.
    """

    pattern: str
    rate: float | None = None
    cap: int | None = None
    share: float | None = None
    exclude: tuple[str, ...] = ()
    present_only: bool = False
    temperature: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise UserError(
                f"part {self.pattern!r}: its pattern is no text; give a name or a glob, 'niv2.*' say"
            )
        exclude = (self.exclude,) if isinstance(self.exclude, str) else tuple(self.exclude)
        object.__setattr__(self, "exclude", exclude)
        for name in ("rate", "cap", "share", "temperature"):
            check_positive(f"part '{self.pattern}'", name, getattr(self, name))
        for name in ("cap", "temperature"):
            if self.rate is not None and getattr(self, name) is not None:
                raise UserError(
                    f"part '{self.pattern}': rate and {name} exclude each other; a {name} is for a weight "
                    "that is taken from the number of examples"
                )


def check_positive(about: str, name: str, value: Any) -> None:
    """Refuses what is no number above 0; a weight must be finite, a bound or a temperature may be infinite."""
    if value is None:
        return
    if callable(value):
        raise UserError(
            f"{about}: {name} is a function; flanx takes a number (a function of the task is SeqIO's, in a "
            "seqio.Mixture)"
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"{about}: {name} {value!r} is not a number; give one above 0")
    if not float(value) > 0:
        raise UserError(f"{about}: {name} {value} is not above 0")
    if name in ("rate", "share") and math.isinf(value):
        raise UserError(
            f"{about}: {name} {value} is not finite; leave other parts out for one alone"
        )


@dataclass(frozen=True)
class Mixture:
    """A registered mixture. `cap` and `temperature` are those of parts without one; `place` is `file:line`."""

    name: str
    parts: tuple[Part, ...]
    cap: int | None
    place: str
    temperature: float | None = None
