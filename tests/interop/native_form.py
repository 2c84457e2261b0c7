"""T5X's native checkpoints, taken apart and put together again."""

from pathlib import Path

from flax import serialization

STEP = "checkpoint_7"


def leaves(native: Path) -> dict:
    return serialization.msgpack_restore((native / STEP / "checkpoint").read_bytes())


def put(native: Path, tree: dict) -> None:
    (native / STEP / "checkpoint").write_bytes(serialization.msgpack_serialize(tree, in_place=True))


def shapes(leaf) -> tuple[int, ...]:
    """Of an inline array or a spec."""
    return tuple(leaf["metadata"]["shape"] if isinstance(leaf, dict) else leaf.shape)


def kernel_of(tree: dict) -> dict:
    return tree["optimizer"]["target"]["decoder"]["layers_1"]["mlp"]["wo"]


KERNEL = "target.decoder.layers_1.mlp.wo.kernel"
