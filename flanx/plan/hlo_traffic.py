"""Bytes that an instruction of a compiled program moves between HBM and the cores."""

from collections.abc import Sequence

from flanx.plan.hlo_text import Array, Instruction, Program


def traffic(program: Program, one: Instruction, computation: dict[str, Instruction]) -> float:
    """Bytes that one instruction reads from HBM and writes to it.

    A fusion that only slices an operand reads the slice, and one that updates a slice in place writes the slice: so
    a scanned layer moves its own parameters, not those of all layers.
    """
    operands = [computation[name] for name in one.operands if name in computation]
    if one.opcode == "dynamic-update-slice":
        return 2.0 * _hbm(operands[1].arrays) if _hbm(operands[0].arrays) else 0.0
    if one.opcode in ("dynamic-slice", "slice", "gather"):
        return 2.0 * _hbm(one.arrays)
    if one.opcode in ("copy-start", "slice-start", "dynamic-slice-start"):
        # (destination, source, ...): one of the two is the cores' memory, or both are HBM.
        moved = min(a.bytes for a in one.arrays[:2])
        return float(sum(moved for a in one.arrays[:2] if a.space == 0))
    if one.opcode == "send":  # (what is sent, ...): no copy of it
        return float(sum(_hbm(o.arrays) for o in operands))
    if one.opcode in ("all-gather-start", "collective-permute-start"):  # (operands, results, ...)
        return float(_hbm(one.arrays))
    wholes = [float(_hbm(o.arrays)) for o in operands]
    inner = _body(program, one)
    if not inner:
        return sum(wholes) + _hbm(one.arrays)
    parameters = _parameters(inner)
    read = 0.0
    for index, whole in enumerate(wholes):
        if whole:
            read += min(whole, _read_of(program, parameters.get(index, ""), inner, whole))
    written = [
        0.0 if array.space else size
        for array, size in zip(one.arrays, _results(program, inner), strict=False)
    ]
    return read + (sum(written) if len(written) == len(one.arrays) else _hbm(one.arrays))


def _read_of(program: Program, name: str, inner: dict[str, Instruction], whole: float) -> float:
    """Bytes that a fusion needs of its parameter `name`: `whole`, or the slices that are all it takes of it."""
    total = 0.0
    for user in inner.values():
        for place in (i for i, operand in enumerate(user.operands) if operand == name):
            if user.opcode in ("bitcast", "reshape"):
                total += _read_of(program, user.name, inner, whole)
            elif user.opcode in ("dynamic-slice", "slice", "gather") and place == 0:
                total += sum(a.bytes for a in user.arrays)
            elif user.opcode == "fusion":
                body = _body(program, user)
                total += _read_of(program, _parameters(body).get(place, ""), body, whole)
            elif user.opcode != "dynamic-update-slice" or place != 0:
                return whole
    return total


def _results(program: Program, inner: dict[str, Instruction]) -> list[float]:
    """Bytes of each result of a fused computation that are really written: of an update in place, the update."""
    root = next((i for i in inner.values() if i.root), None)
    if root is None:
        return []
    parts = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    sizes: list[float] = []
    for part in parts:
        while part.opcode in ("bitcast", "reshape") and part.operands[0] in inner:
            part = inner[part.operands[0]]
        if part.opcode == "dynamic-update-slice" and part.operands[1] in inner:
            sizes.append(float(sum(a.bytes for a in inner[part.operands[1]].arrays)))
        elif part.opcode == "fusion":
            sizes += _results(program, _body(program, part))
        else:
            sizes += [float(a.bytes) for a in part.arrays]
    return sizes


def _body(program: Program, one: Instruction) -> dict[str, Instruction]:
    called = one.called("calls")
    return program.computations.get(called[0], {}) if called else {}


def _parameters(inner: dict[str, Instruction]) -> dict[int, str]:
    """Names of a computation's parameters by number."""
    return {int(i.literal): i.name for i in inner.values() if i.opcode == "parameter"}


def _hbm(arrays: Sequence[Array]) -> int:
    return sum(a.bytes for a in arrays if a.space == 0)
