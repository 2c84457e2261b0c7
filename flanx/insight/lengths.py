"""Row lengths for a mixture: those that waste the fewest FLOPs while cutting no more than a given share of examples.

What rows of (Li, Lt) cells cost is the training step's FLOPs, padding and attention between strangers included, for the
hardware computes them. What they are worth is the FLOPs that their examples would need in rows of exactly their own
lengths. The waste is one minus worth over cost. It is measured by packing a sample of the real stream; so that few of
the hundreds of candidates have to be packed, each first gets a bound from below: no packing takes fewer rows than the
tokens of either feature fill, or than there are examples of more than half a row.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flanx.errors import UserError
from flanx.insight.distribution import Lengths
from flanx.insight.sample import density
from flanx.models.config import ModelConfig

LONGEST = (4096, 1024)  # of the rows considered
# What others train with: Flan 2022's own, and two shorter ones that are common.
USUAL = ((2048, 512), (1024, 256), (512, 128))


@dataclass(frozen=True)
class Candidate:
    """Rows of some lengths, measured.

    Attributes:
      inputs, targets: cells of a row.
      inputs_cut, targets_cut: share of the training examples that are longer.
      inputs_fill, targets_fill: share of the cells that hold tokens.
      examples_per_row: how densely it packs.
      flops_per_token: training FLOPs for each real token, inputs and targets together.
      wasted: share of the FLOPs that padding, and attention between strangers, takes.
    """

    inputs: int
    targets: int
    inputs_cut: float
    targets_cut: float
    inputs_fill: float
    targets_fill: float
    examples_per_row: float
    flops_per_token: float
    wasted: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Material:
    """What candidates are measured with.

    Attributes:
      blocks: int64[n, 2] lengths of the examples of each sampled block of the stream.
      inputs, targets: lengths of all examples.
      config: the network whose FLOPs count.
      packed: several examples a row.
    """

    blocks: Sequence[NDArray[np.int64]]
    inputs: Lengths
    targets: Lengths
    config: ModelConfig
    packed: bool = True


@dataclass(frozen=True)
class Advice:
    """Candidates within the clip rate, the least wasteful first; at least one.

    Attributes:
      best: as many as were asked for, or fewer.
      considered: pairs of lengths within the clip rate.
      measured: how many of them had to be packed.
    """

    best: tuple[Candidate, ...]
    considered: int
    measured: int


def advise(
    material: Material,
    *,
    clip_rate: float,
    multiple: int,
    top: int = 6,
    longest: tuple[int, int] = LONGEST,
    also: Sequence[tuple[int, int]] = (),
    advance: Callable[[], None] = lambda: None,
) -> Advice:
    """The `top` pairs of lengths that waste least.

    Args:
      material: the data.
      clip_rate: most of the examples that may be cut, of each feature.
      multiple: lengths are multiples of it (64 or 128, which accelerators lay out without padding).
      top: candidates wanted.
      longest: rows considered are no longer.
      also: pairs that take part whatever they are multiples of, if they cut no more.
      advance: called after each candidate that was packed.

    Raises:
      UserError: even the longest rows cut more.
    """
    starts = [
        _least(name, lengths, clip_rate, multiple, most)
        for name, lengths, most in zip(
            ("inputs", "targets"), (material.inputs, material.targets), longest, strict=True
        )
    ]
    grid = [
        np.arange(start, most + 1, multiple) for start, most in zip(starts, longest, strict=True)
    ]
    least = _least_waste(material, *grid)
    bounds = {
        (int(inputs), int(targets)): float(least[i, j])
        for i, inputs in enumerate(grid[0])
        for j, targets in enumerate(grid[1])
    }
    for inputs, targets in also:
        over = max(material.inputs.over(inputs), material.targets.over(targets))
        if over <= clip_rate:
            alone = _least_waste(material, np.array([inputs]), np.array([targets]))
            bounds[inputs, targets] = float(alone[0, 0])
    best: list[Candidate] = []
    packed = 0
    for pair, bound in sorted(bounds.items(), key=lambda item: (item[1], item[0])):
        if len(best) == top and bound >= best[-1].wasted:
            break  # no later one can be better: bounds only grow
        best.append(measure(material, pair))
        best.sort(key=lambda one: (one.wasted, one.inputs, one.targets))
        del best[top:]
        packed += 1
        advance()
    return Advice(tuple(best), len(bounds), packed)


def measure(material: Material, pair: tuple[int, int]) -> Candidate:
    """Packs the sample into rows of these lengths."""
    inputs, targets = pair
    dense = density(material.blocks, pair, material.packed)
    cost = material.config.flops_per_step(dense.rows, {"inputs": inputs, "targets": targets})
    tokens = dense.rows * (inputs * dense.inputs_fill + targets * dense.targets_fill)
    return Candidate(
        inputs=inputs,
        targets=targets,
        inputs_cut=material.inputs.over(inputs),
        targets_cut=material.targets.over(targets),
        inputs_fill=dense.inputs_fill,
        targets_fill=dense.targets_fill,
        examples_per_row=dense.examples_per_row,
        flops_per_token=cost / tokens,
        wasted=1 - _worth(material, pair) / cost,
    )


def compared(material: Material, present: tuple[int, int] | None) -> list[Candidate]:
    """What the run has now, if anything, and the usual lengths."""
    pairs = dict.fromkeys(([present] if present else []) + list(USUAL))
    return [measure(material, pair) for pair in pairs]


def _least(name: str, lengths: Lengths, clip_rate: float, multiple: int, most: int) -> int:
    least = lengths.least(clip_rate, multiple)
    if least is None or least > most:
        over = lengths.over(most)
        raise UserError(
            f"{over:.2%} of the examples have {name} of more than {min(most, lengths.limit):,} tokens (the longest "
            f"{lengths.longest:,}), so no row up to that length cuts at most --clip_rate {clip_rate:g}; "
            "raise --clip_rate or the lengths of --measure"
        )
    return least


def _least_waste(
    material: Material, inputs: NDArray[np.int64], targets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """float64[I, T]: a bound from below of the waste of rows of each of the inputs with each of the targets lengths."""
    rows = np.zeros((inputs.size, targets.size))
    worth = np.zeros_like(rows)
    mixed = _flops(material, 1, 1) - _flops(material, 1, 0) - _flops(material, 0, 1)
    for block in material.blocks:
        # [I, n] and [T, n]: every example cut to every length.
        cut_inputs = np.minimum(block[:, 0], inputs[:, None])
        cut_targets = np.minimum(block[:, 1], targets[:, None])
        if material.packed:
            some, others = _least_rows(cut_inputs, inputs), _least_rows(cut_targets, targets)
            rows += np.maximum(some[:, None], others)
        else:
            rows += len(block)
        # Only cross-attention has both lengths in one term, as their product.
        worth += _flops(material, cut_inputs, 0).sum(axis=1)[:, None]
        worth += _flops(material, 0, cut_targets).sum(axis=1)
        worth += mixed * (cut_inputs.astype(np.float64) @ cut_targets.astype(np.float64).T)
    return 1 - worth / (rows * _flops(material, inputs[:, None], targets))


def _least_rows(cut: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[L]: rows that examples cut to each length take at least."""
    full = -(-cut.sum(axis=1) // length)
    alone = (2 * cut > length[:, None]).sum(axis=1)
    return np.maximum(full, alone)


def _worth(material: Material, pair: tuple[int, int]) -> float:
    """FLOPs of the sampled examples, cut to the pair, each in a row of exactly its own lengths."""
    cut = (np.minimum(block, pair).T for block in material.blocks)
    return sum(float(_flops(material, inputs, targets).sum()) for inputs, targets in cut)


def _flops(material: Material, inputs: Any, targets: Any) -> NDArray[np.float64]:
    """Training FLOPs of a row. The formula is arithmetic, so whole arrays go through it as single lengths do."""
    return np.asarray(
        material.config.flops_per_step(1, {"inputs": inputs, "targets": targets}), np.float64
    )
