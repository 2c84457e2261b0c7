"""A family's parameters, stated once: path, shape, logical axes, and Hugging Face's name and layout.

Expected shapes, counts, sharding, names in other forms: all are derived from a family's table. That the network makes
these parameters and no others is held by a test of each family.
"""

import functools
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NUMBER = "{}"


def mlp_branches(activations: tuple[str, ...]) -> tuple[str, ...]:
    """T5X's names of a feed-forward block's first projections: "wi", or "wi_0", "wi_1" of a gated one."""
    count = len(activations)
    return ("wi",) if count == 1 else tuple(f"wi_{i}" for i in range(count))


@dataclass(frozen=True)
class Parameter:
    """One parameter of a network, or one that every layer of a stack has.

    Attributes:
      path: "encoder/layers_{}/mlp/wo/kernel", with {} for the layer's number; T5X's name where T5X has the model.
      shape: its sizes, without an axis of layers.
      axes: the logical axis of each (`flanx.sharding.axes.RULES`).
      layers: layers that have it; None for a parameter outside of layers.
      hf: Hugging Face's name, {} for the layer's number; None where it has none.
      transposed: whether Hugging Face keeps the transpose (torch's projections are (out, in)).
    """

    path: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    layers: int | None = None
    hf: str | None = None
    transposed: bool = False

    @property
    def stack(self) -> str:
        """What its path has before the layer's number."""
        return self.path.partition(_NUMBER)[0] if self.layers is not None else ""


def output_projection(emb_dim: int, vocab_size: int) -> Parameter:
    """The kernel of logits that share nothing with the embedding."""
    return Parameter(
        "decoder/logits_dense/kernel",
        (emb_dim, vocab_size),
        ("embed", "vocab"),
        hf="lm_head.weight",
        transposed=True,
    )


@dataclass(frozen=True)
class Parameters:
    """The table of one configuration, in the order of the network."""

    entries: tuple[Parameter, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter by its unrolled name, with its shape, layer after layer."""
        return {name: entry.shape for name, entry in self._unrolled()}

    def count(self) -> int:
        """Number of scalars, by arithmetic."""
        return sum(
            math.prod(entry.shape) * (1 if entry.layers is None else entry.layers)
            for entry in self.entries
        )

    def logical_axes(self, path: str, ndim: int) -> tuple[str, ...]:
        """Axis names of the parameter at `path`, unrolled or stacked ("encoder/layers/mlp/wo/kernel").

        A stacked one has one more axis, "layers", in front.

        Raises:
          ValueError: the table does not know the path, or with another number of axes.
        """
        generic = re.sub(r"(^|/)layers(?:_\d+)?/", rf"\1layers_{_NUMBER}/", path, count=1)
        entry = self._by_path.get(path) or self._by_path.get(generic)
        if entry is None:
            raise ValueError(f"parameter {path} is not in the family's table")
        if ndim == len(entry.axes) + 1 and "layers" in path.split("/"):
            return ("layers", *entry.axes)
        if ndim != len(entry.axes):
            raise ValueError(f"parameter {path} has {ndim} axes; the table has {entry.axes}")
        return entry.axes

    def to_hf(self, name: str) -> tuple[str, bool]:
        """Hugging Face's name of a parameter by its unrolled name, and whether it keeps the transpose.

        Raises:
          KeyError: no such parameter, or Hugging Face has none.
        """
        entry = self._by_path.get(name)
        number = None
        if entry is None:
            found = re.search(r"(?<=layers_)\d+(?=/)", name)
            if found is None:
                raise KeyError(name)
            number = found.group()
            entry = self._by_path[f"{name[: found.start()]}{_NUMBER}{name[found.end() :]}"]
        if entry.hf is None:
            raise KeyError(name)
        return entry.hf.replace(_NUMBER, number or ""), entry.transposed

    def from_hf(self, name: str) -> tuple[str, bool] | None:
        """The inverse of `to_hf` (of whatever layer); None for a name that the model does not have."""
        entry = self._by_hf.get(name)
        if entry is not None:
            return entry.path, entry.transposed
        for found in re.finditer(r"(?<=\.)\d{1,9}(?=\.)", name):
            template = f"{name[: found.start()]}{_NUMBER}{name[found.end() :]}"
            entry = self._by_hf.get(template)
            if entry is not None:
                return entry.path.replace(_NUMBER, str(int(found.group()))), entry.transposed
        return None

    @functools.cached_property
    def _by_path(self) -> dict[str, Parameter]:
        return {entry.path: entry for entry in self.entries}

    @functools.cached_property
    def _by_hf(self) -> dict[str, Parameter]:
        return {entry.hf: entry for entry in self.entries if entry.hf is not None}

    def _unrolled(self) -> Iterator[tuple[str, Parameter]]:
        for _, group in itertools.groupby(self.entries, key=lambda e: (e.stack, e.layers)):
            entries = list(group)
            if entries[0].layers is None:
                yield from ((entry.path, entry) for entry in entries)
                continue
            for number in range(entries[0].layers):
                for entry in entries:
                    yield entry.path.replace(_NUMBER, str(number)), entry
