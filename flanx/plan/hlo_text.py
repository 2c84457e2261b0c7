"""XLA's text of a compiled program as computations and instructions: as much of the grammar as counting costs needs.

The text is what `jax.stages.Compiled.as_text()` returns. An instruction reads

    ROOT %name = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} opcode(%a, %b), attribute=value, metadata={...}

where `S(1)` in the layout says that the array lies in the cores' own memory rather than in HBM.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BITS = {
    "pred": 8,
    "token": 0,
    "opaque": 0,
    **{f"{kind}{bits}": bits for kind in "su" for bits in (2, 4, 8, 16, 32, 64)},
    **{f"f{bits}": bits for bits in (16, 32, 64)},
    "bf16": 16,
    "c64": 64,
    "c128": 128,
}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_NAME = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_OPERAND = re.compile(r"%([\w.\-]+)")
_SPACE = re.compile(r"S\((\d+)\)")


@dataclass(frozen=True)
class Array:
    """The type of one array: element type ("bf16"), dimensions, and the memory it lies in (0 is HBM)."""

    dtype: str
    dims: tuple[int, ...]
    space: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """Without padding."""
        bits = _BITS.get(self.dtype, 8)  # the many kinds of float8
        return (self.size * bits + 7) // 8


@dataclass(frozen=True)
class Instruction:
    """One line.

    Attributes:
      name: without the percent sign.
      opcode: "fusion", "all-gather-start", ...
      arrays: its result, a tuple's leaves one after the other.
      operands: names of other instructions of the same computation.
      attributes: all that stands behind the operands.
      literal: what stands between the parentheses.
      root: whether it is its computation's result.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    literal: str
    root: bool

    def called(self, *keys: str) -> list[str]:
        """Names of the computations under these attributes (`calls`, `body`, `condition`, ...)."""
        names: list[str] = []
        for key in keys:
            found = re.search(rf"\b{key}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.attributes)
            if found:
                names += _OPERAND.findall(found[1]) if found[1] else [found[2]]
        return names

    def numbers(self, key: str) -> tuple[int, ...]:
        """The whole numbers of an attribute like `lhs_contracting_dims={0,1}`."""
        found = re.search(rf"\b{key}=\{{([\d,]*)\}}", self.attributes)
        return tuple(int(n) for n in found[1].split(",") if n) if found else ()

    def number(self, key: str, default: int) -> int:
        """The whole number of an attribute like `feature_group_count=8`."""
        found = re.search(rf"\b{key}=(\d+)", self.attributes)
        return int(found[1]) if found else default


@dataclass(frozen=True)
class Program:
    """A compiled program: computations by name, each its instructions by name in the order written."""

    computations: dict[str, dict[str, Instruction]]
    entry: str


def parse(text: str) -> Program:
    """Reads the whole text; lines of no interest are passed over.

    Raises:
      ValueError: there is no entry computation, so this is no program.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    entry = ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif found := _NAME.match(line):
            instruction = _instruction(line, found)
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("no ENTRY computation in this text")
    return Program(computations, entry)


def _instruction(line: str, found: "re.Match[str]") -> Instruction:
    start = found.end()
    end = _balanced(line, start) if line[start] == "(" else line.index(" ", start)
    opening = line.index("(", end)
    closing = _balanced(line, opening)
    literal = line[opening + 1 : closing - 1]
    return Instruction(
        name=found[2],
        opcode=line[end:opening].strip(),
        arrays=tuple(_arrays(line[start:end])),
        operands=tuple(_OPERAND.findall(literal)),
        attributes=line[closing:],
        literal=literal,
        root=bool(found[1]),
    )


def _arrays(text: str) -> Iterator[Array]:
    for dtype, dims, layout in _ARRAY.findall(text):
        space = _SPACE.search(layout)
        sizes = tuple(int(n.removeprefix("<=")) for n in dims.split(",") if n)
        yield Array(dtype, sizes, int(space[1]) if space else 0)


def _balanced(line: str, start: int) -> int:
    """The position after the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(line)):
        if line[position] == "(":
            depth += 1
        elif line[position] == ")":
            depth -= 1
            if not depth:
                return position + 1
    return len(line)
