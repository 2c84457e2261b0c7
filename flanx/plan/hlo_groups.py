"""Which devices take part in a collective together, in any of the forms that XLA writes."""

import math
import re

import numpy as np


def replica_groups(attributes: str) -> tuple[tuple[int, ...], ...]:
    """The groups of a collective in any of XLA's forms.

    Written out, `{{0,1},{2,3}}`; as a reshaped, transposed count, `[4,2]<=[2,4]T(1,0)`; or as axes of a mesh,
    `mesh['x'=2,'y'=4] {'y'}`, where `'y':(2)2` is the part of an axis of size 2 that has 2 parts before it,
    perhaps with the devices' order (`device_ids=([4,2]T(1,0))`).
    """
    if "replica_groups=mesh[" in attributes:
        return _mesh_groups(attributes)
    short = re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes)
    if short:
        shape, dims = (tuple(int(n) for n in short[i].split(",")) for i in (1, 2))
        numbers = np.arange(math.prod(dims)).reshape(dims)
        if short[3]:
            numbers = numbers.transpose([int(n) for n in short[3].split(",")])
        return tuple(tuple(int(n) for n in row) for row in numbers.reshape(shape))
    written = re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", attributes)
    pairs = re.search(r"source_target_pairs=\{(\{[\d,{}]*\})\}", attributes)
    found = written or pairs
    if not found:
        return ()
    return tuple(
        tuple(int(n) for n in group.split(",")) for group in re.findall(r"\{([\d,]+)\}", found[1])
    )


def slices_spanned(attributes: str) -> int:
    """How many slices one group of a TPU's transfer between slices spans; 2, the fewest, where it does not say.

    Slices count from 1: `"{1,2,3}x{0:3}"` is each of cores 0 to 3 with its like in slices 1, 2 and 3; written out, core
    3 of slice 2 is 200003.
    """
    product = re.search(r'_xla_megascale_target="\{([\d,:]+)\}x', attributes)
    if product:
        ends = [tuple(int(n) for n in part.split(":")) for part in product[1].split(",")]
        return sum(end[-1] - end[0] + 1 for end in ends)
    written = re.search(r"_xla_megascale_target=\{\{([\d,]+)\}", attributes)
    return len({int(n) // 100_000 for n in written[1].split(",")}) if written else 2


def _mesh_groups(attributes: str) -> tuple[tuple[int, ...], ...]:
    found = re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(([^{]*)\))?\s*\{([^}]*)\}", attributes
    )
    if found is None:
        return ()
    sizes = {name: int(n) for name, n in re.findall(r"'([^']+)'=(\d+)", found[1])}
    chosen = re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", found[3])
    parts: list[tuple[int, bool]] = []  # size, and whether it is in the group
    for name, size in sizes.items():
        inside = sorted((int(b or 1), int(n or size)) for axis, b, n in chosen if axis == name)
        done = 1
        for before, count in inside:
            parts += [(before // done, False), (count, True)]
            done = before * count
        parts.append((size // done, False))
    numbers = np.arange(math.prod(sizes.values()))
    if found[2]:
        numbers = _listed(found[2], numbers)
    numbers = numbers.reshape([n for n, _ in parts])
    order = sorted(range(len(parts)), key=lambda axis: parts[axis][1])
    group = math.prod(n for n, among in parts if among)
    return tuple(tuple(int(n) for n in row) for row in numbers.transpose(order).reshape(-1, group))


def _listed(text: str, numbers: np.ndarray) -> np.ndarray:
    """Devices in the order of a mesh: `[64,8]T(1,0)` for all of them reshaped and transposed, or each by number."""
    shape = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?$", text)
    if shape is None:
        return np.array([int(n) for n in re.findall(r"\d+", text)])
    table = numbers.reshape([int(n) for n in shape[1].split(",")])
    return table.transpose([int(n) for n in shape[2].split(",")]) if shape[2] else table
