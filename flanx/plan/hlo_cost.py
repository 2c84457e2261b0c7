"""What a compiled program costs one device a step: FLOPs, bytes to and from HBM, bytes over links, loops counted.

XLA's own `cost_analysis` counts the body of a loop once; here it counts as often as the loop runs, which XLA writes
into its text (`known_trip_count`), so that 24 scanned layers cost 24 layers. FLOPs are those of matrix products, as
`flanx.models.t5.flops` counts them, but of the program as it is: with what remat computes again, and with what is
computed on several devices alike.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flanx.plan.hlo_groups import replica_groups, slices_spanned
from flanx.plan.hlo_text import Array, Instruction, Program
from flanx.plan.hlo_traffic import traffic

COLLECTIVES = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# What a TPU calls a collective between slices: a `send` of what every device has left after one inside its slice.
_TRANSFERS = {
    "ALL_GATHER": "all-gather",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_REDUCE": "all-reduce",
    "ALL_TO_ALL": "all-to-all",
    "ONE_TO_ONE": "collective-permute",
}
# Instructions that move nothing by themselves.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "opt-barrier",
    "optimization-barrier",
    "partition-id",
    "replica-id",
    "domain",
    "async-update",
    "add-dependency",
}


@dataclass(frozen=True)
class Collective:
    """One collective instruction.

    Attributes:
      kind: one of `COLLECTIVES`.
      name: the instruction's.
      payload: bytes that one device puts in.
      groups: devices that take part together, each a tuple of their places in the mesh; empty for all.
      times: how often it runs in a step.
      source: the `op_name` of the computation it serves.
      slices: over so many slices each device exchanges with its like in the others; 0 where the groups say it all.
    """

    kind: str
    name: str
    payload: int
    groups: tuple[tuple[int, ...], ...]
    times: int
    source: str = ""
    slices: int = 0

    def members(self, devices: int) -> tuple[int, ...]:
        """The first group, or all devices."""
        return self.groups[0] if self.groups else tuple(range(devices))

    def moved(self, n: int) -> float:
        """Bytes that each of n devices must send, whatever the algorithm (a ring reaches it)."""
        if self.kind in ("collective-permute", "collective-broadcast"):
            return float(self.payload)
        if n <= 1:
            return 0.0
        if self.kind == "all-gather":
            return float(self.payload * (n - 1))
        share = self.payload * (n - 1) / n
        return 2 * share if self.kind == "all-reduce" else share

    def between(self, slices: int, inside: int) -> tuple[float, float]:
        """Bytes that each device must send over links and over the network, `inside` devices of each slice taking part.

        Whatever can be is added up before it leaves a slice, and passed on inside the slice that it reaches.
        """
        if slices == 1:
            return self.moved(inside), 0.0
        if self.kind == "all-gather":
            return self.moved(inside) * slices, self.moved(slices)
        if self.kind in ("all-to-all", "ragged-all-to-all"):
            return self.moved(inside) / slices, self.moved(slices)
        return self.moved(inside), self.moved(slices) / inside


@dataclass
class Cost:
    """One device's step.

    Attributes:
      flops: of matrix products and convolutions.
      hbm_bytes: read from and written to HBM.
      collectives: every collective, with how often it runs.
      unknown_loops: loops whose number of turns XLA did not tell; their bodies count once.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0
    collectives: list[Collective] = field(default_factory=list)
    unknown_loops: int = 0


def cost(program: Program) -> Cost:
    """Walks the program from its entry, each loop's body as many times as it runs."""
    found = Cost()
    _walk(program, program.entry, 1, found)
    return found


def trip_count(
    program: Program, loop: Instruction, around: Mapping[str, Instruction]
) -> int | None:
    """How often a `while` turns: as XLA annotated it, else told by what it counts, from where, by how much, how far.

    Args:
      program: the whole.
      loop: the `while`.
      around: the computation it stands in.
    """
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if known:
        return int(known[1])
    inside = [program.computations.get(name, {}) for name in loop.called("condition", "body")]
    if len(inside) != 2:
        return None
    condition, body = inside
    compared = [i for i in condition.values() if i.root and "direction=LT" in i.attributes]
    if not compared or len(compared[0].operands) != 2:
        return None
    counter, limit = (condition.get(name) for name in compared[0].operands)
    if counter is None or counter.opcode != "get-tuple-element":
        return None
    place = counter.number("index", 0)
    start = _literal(around, _element(around, loop.operands[0], place))
    step = _step(body, place)
    if limit is None or start is None or not step or not limit.literal.isdigit():
        return None
    return max(-(-(int(limit.literal) - start) // step), 0)


def _element(computation: Mapping[str, Instruction], name: str, place: int) -> str:
    """The name of one operand of a tuple, "" where it is no tuple."""
    found = computation.get(name)
    return found.operands[place] if found and found.opcode == "tuple" else ""


def _literal(computation: Mapping[str, Instruction], name: str) -> int | None:
    """The number that an instruction is, through copies of it."""
    found = computation.get(name)
    while found and found.opcode in ("copy", "convert", "bitcast"):
        found = computation.get(found.operands[0])
    number = found is not None and found.opcode == "constant" and found.literal.isdigit()
    return int(found.literal) if found and number else None


def _step(body: Mapping[str, Instruction], place: int) -> int | None:
    """What a loop's body adds to its counter, in one addition or several."""
    (root,) = [i.name for i in body.values() if i.root] or [""]
    name, total = _element(body, root, place), 0
    while found := body.get(name):
        if found.opcode == "get-tuple-element":
            return total if found.number("index", -1) == place else None
        if found.opcode == "add":
            added = _literal(body, found.operands[1])
            if added is None:
                return None
            total += added
        elif found.opcode not in ("copy", "bitcast"):
            return None
        name = found.operands[0]
    return None


def _walk(program: Program, name: str, times: int, found: Cost) -> None:
    computation = program.computations.get(name, {})
    for one in computation.values():
        if one.opcode == "while":
            turns = trip_count(program, one, computation)
            found.unknown_loops += turns is None
            for body in one.called("body"):
                _walk(program, body, times * (1 if turns is None else turns), found)
        elif one.opcode == "conditional":
            for branch in one.called(
                "branch_computations", "true_computation", "false_computation"
            ):
                _walk(program, branch, times, found)
        elif one.opcode in ("call", "async-start"):
            for called in one.called("to_apply", "calls"):
                _walk(program, called, times, found)
        else:
            _count(program, computation, one, times, found)


def _count(
    program: Program, computation: dict[str, Instruction], one: Instruction, times: int, found: Cost
) -> None:
    _compute(program, computation, one, times, found, scattered=False)
    if one.opcode not in _FREE and not one.opcode.endswith("-done"):
        found.hbm_bytes += times * traffic(program, one, computation)


def _compute(
    program: Program,
    computation: dict[str, Instruction],
    one: Instruction,
    times: int,
    found: Cost,
    *,
    scattered: bool,
) -> None:
    """Products and collectives of one instruction, and of all that is fused into it, fusions in fusions too."""
    found.flops += times * flops(one, computation)
    kind = one.opcode.removesuffix("-start")
    if kind in COLLECTIVES and not _goes_on(one, computation):
        # An all-reduce of which each device takes its part at once: a TPU runs the two as a reduce-scatter.
        kind = "reduce-scatter" if scattered and kind == "all-reduce" else kind
        found.collectives.append(_collective(kind, one, computation, times))
    transfer = re.search(r'_xla_megascale_transfer_type="(\w+)"', one.attributes)
    if one.opcode == "send" and transfer and transfer[1] in _TRANSFERS:
        kind = _TRANSFERS[transfer[1]]
        found.collectives.append(_collective(kind, one, computation, times))
    for name in one.called("calls"):
        inner = program.computations.get(name, {})
        scatters = scattered or name.startswith("all-reduce-scatter")
        for each in inner.values():
            _compute(program, inner, each, times, found, scattered=scatters)


def _goes_on(one: Instruction, computation: dict[str, Instruction]) -> bool:
    """Whether this is a later part of a collective that a TPU runs beside several fusions.

    The collective is written into each of them, with one `chain_id`; the first alone starts it.
    """
    if "chain_id=" not in one.attributes:
        return False
    return not any(
        'custom_call_target="AsyncCollectiveStart"' in user.attributes and one.name in user.operands
        for user in computation.values()
    )


def flops(one: Instruction, computation: dict[str, Instruction]) -> float:
    """FLOPs of a product: a multiplication and an addition for each pair that meets; 0 for anything else."""
    if one.opcode == "dot":
        left = _operand(one, computation, 0)
        contracted = math.prod(left.dims[d] for d in one.numbers("lhs_contracting_dims"))
        return 2.0 * one.arrays[0].size * contracted
    if one.opcode == "convolution":
        return _convolution(one, computation)
    return 0.0


def _convolution(one: Instruction, computation: dict[str, Instruction]) -> float:
    """A convolution, which is what a product becomes on a TPU: padding and holes between elements do no work."""
    left, right = _operand(one, computation, 0), _operand(one, computation, 1)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    if labels is None:
        return 0.0
    window = re.search(r"window=\{([^}]*)\}", one.attributes)
    spec = dict(part.split("=", 1) for part in window[1].split()) if window else {}
    pairs = 1.0
    for axis in sorted(c for c in labels[3] if c.isdigit()):
        place = int(axis)
        pairs *= _meeting(
            left.dims[labels[1].index(axis)],
            right.dims[labels[2].index(axis)],
            one.arrays[0].dims[labels[3].index(axis)],
            stride=_at(spec, "stride", place, 1),
            low=_at(spec, "pad", place, 0),
            left_holes=_at(spec, "lhs_dilate", place, 1),
            right_holes=_at(spec, "rhs_dilate", place, 1),
        )
    rows = left.dims[labels[1].index("b")] // one.number("batch_group_count", 1)
    features = right.dims[labels[2].index("i")] * right.dims[labels[2].index("o")]
    return 2.0 * rows * features * pairs


def _at(spec: dict[str, str], key: str, place: int, default: int) -> int:
    """The number of one spatial axis: "8x1" -> 8; of padding "7_7x0_0" the low side."""
    if key not in spec:
        return default
    return int(spec[key].split("x")[place].split("_")[0])


def _meeting(
    left: int, right: int, out: int, *, stride: int, low: int, left_holes: int, right_holes: int
) -> int:
    """How many pairs of output and kernel positions meet a real element of the input, along one axis."""
    place = np.arange(out)[:, None] * stride + np.arange(right)[None, :] * right_holes - low
    inside = (place >= 0) & (place <= (left - 1) * left_holes) & (place % left_holes == 0)
    return int(np.count_nonzero(inside))


def _operand(one: Instruction, computation: dict[str, Instruction], index: int) -> Array:
    return computation[one.operands[index]].arrays[0]


def _collective(
    kind: str, one: Instruction, computation: dict[str, Instruction], times: int
) -> Collective:
    inputs = [computation[name] for name in one.operands if name in computation]
    payload = sum(array.bytes for each in inputs for array in each.arrays)
    source = re.search(r'op_name="([^"]*)"', one.attributes)
    return Collective(
        kind,
        one.name,
        payload,
        replica_groups(one.attributes),
        times,
        source[1] if source else "",
        slices_spanned(one.attributes) if one.opcode == "send" else 0,
    )
