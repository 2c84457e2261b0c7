"""How devices are laid out, as gin configures it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class MeshConfig:
    """How devices are laid out, and what of the parameters each holds (docs/sharding.md).

    Attributes:
      replica: groups that hold the same; -1 for one a TPU slice or GPU node, 1 where there is but one.
      data: devices that share a batch's rows; -1 takes what `replica` and `model` leave.
      model: devices that share wide parameters and their products (tensor parallel).
      parameters: along `data`, "replicated" (T5X's 1-D parameters), or "fully_sharded" (2-D): parameters and optimizer
        state are spread over it, and gathered where they are used.
      rules: other mesh axes for some logical axes, `{"embed": ("replica", "data")}`; `flanx.sharding.axes` has
        their names.
    """

    replica: int = -1
    data: int = -1
    model: int = 1
    parameters: Literal["replicated", "fully_sharded"] = "replicated"
    rules: Mapping[str, str | tuple[str, ...] | None] = field(default_factory=dict)
