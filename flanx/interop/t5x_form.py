"""T5X's own checkpoints: msgpack with zarr folders beside it (as Flan-T5 was released), and its later Orbax form.

    checkpoint_<step>/checkpoint                            msgpack {version, optimizer: {target, state}}
    checkpoint_<step>/target.encoder.<...>.kernel/          zarr v2
    checkpoint_<step>/state/                                Orbax: {target, state}, names joined by dots

Inline arrays, specs with `path` at their top, arrays without `.zarray`, and specs written for a bucket but lying on a
disk (or the other way round) are all read: where an array lies is always told relative to the checkpoint.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from flanx.errors import UserError
from flanx.interop import json_text, t5x_message, zarr_array
from flanx.interop.places import Place
from flanx.interop.source import ArrayInfo, StoredArray

MESSAGE = "checkpoint"
_STEP = re.compile(r"checkpoint_(\d+)")


def steps(place: Place) -> dict[int, str]:
    """Step -> folder name of the checkpoints under a T5X MODEL_DIR; unfinished ones have other names."""
    found = {name: _STEP.fullmatch(name) for name in place.children()}
    return {int(m.group(1)): name for name, m in found.items() if m}


def read_native(place: Place) -> tuple[dict[str, StoredArray], int | None]:
    """Every array of a native checkpoint ("target/...", "state/..."), and its step.

    Raises:
      UserError: the msgpack file is damaged or of another kind, or an array is not there.
    """
    where = f"{place}/{MESSAGE}"
    content = place.read(MESSAGE)
    assert content is not None
    try:
        tree = t5x_message.unpack(content)
        optimizer = tree["optimizer"]
        leaves = _leaves({"target": optimizer["target"], "state": optimizer.get("state", {})})
        step = leaves.pop("state/step", None)
        arrays = {name: _native_array(place, name, leaf) for name, leaf in leaves.items()}
        return arrays, None if step is None else int(_value(place, "state/step", step))
    except UserError:
        raise
    except Exception as error:
        hint = "a TensorFlow checkpoint" if content.startswith(b"model_checkpoint_path") else ""
        raise UserError(
            f"{where} is no whole T5X checkpoint ({hint or _reason(error)}): copy the folder again, or give another"
        ) from error


def read_orbax(place: Place) -> tuple[dict[str, StoredArray], int | None]:
    """The same of T5X's Orbax form.

    Raises:
      UserError: it is not whole, or an array is not there.
    """
    arrays = read_tree(place / "state")
    step = arrays.pop("step", None) or arrays.pop("state/step", None)
    kept = {n: a for n, a in arrays.items() if n.startswith(("target/", "state/"))}
    return kept, None if step is None else int(step.read())


def read_tree(place: Place) -> dict[str, StoredArray]:
    """Every array in a folder that Orbax wrote, by path ("encoder/layers_0/.../kernel"); OCDBT, zarr v2 or v3.

    Raises:
      UserError: it is not whole.
    """
    text = place.read("_METADATA")
    if text is None:
        raise UserError(f"{place}/_METADATA is missing: the checkpoint is not whole, copy it again")
    try:
        metadata = json_text.parse(text)
        paths = [
            tuple(str(key["key"]) for key in entry["key_metadata"])
            for entry in metadata["tree_metadata"].values()
            if entry["value_metadata"]["value_type"] in ("jax.Array", "np.ndarray", "scalar")
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{place}/_METADATA is not what Orbax writes ({_reason(error)}): copy the checkpoint again"
        ) from error
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    # Orbax says whether it wrote chunks of zeros too: then one that is not there is lost, and no zeros.
    every = bool(metadata.get("store_array_data_equal_to_fill_value"))
    ocdbt = "manifest.ocdbt" in place.children()
    there = None if place.remote else functools.cache(lambda: zarr_array.bytes_in(place.path))
    arrays = {}
    for path in sorted(paths, key=_natural):
        name, folder = "/".join(path), place / ".".join(path)
        plain = None if ocdbt or place.remote else zarr_array.open_folder(folder.path, name)
        kvstore: dict[str, Any] = folder.kvstore()
        if ocdbt:
            kvstore = {"driver": "ocdbt", "base": place.kvstore(), "path": ".".join(path) + "/"}
        spec = {"driver": driver, "kvstore": kvstore, "fill_missing_data_reads": not every}
        arrays[name] = plain or zarr_array.open_array(spec, name, str(place), there=there)
    return arrays


def _native_array(place: Place, name: str, leaf: Any) -> StoredArray:
    if not _is_spec(leaf):
        value = _value(place, name, leaf)
        where = f"{place}/{MESSAGE}"
        return StoredArray(ArrayInfo(value.shape, value.dtype), where, lambda: value)
    kvstore = leaf["kvstore"]
    relative = leaf.get("path") or kvstore.get("path") or ""
    folder = place / relative.strip("/").rpartition("/")[2]
    bare = "metadata" in leaf and (folder.read(".zarray") is None)
    if bare and not folder.children():
        raise UserError(
            f"array '{name}': {folder} is missing, the checkpoint is not whole: copy it again"
        )
    spec: dict[str, Any] = {
        "driver": "zarr",
        "kvstore": folder.kvstore(),
        "fill_missing_data_reads": False,
    }
    if bare:
        spec |= {"dtype": leaf["dtype"], "metadata": leaf["metadata"]}
    plain = None if bare or place.remote else zarr_array.open_folder(folder.path, name)
    there = None if place.remote else lambda: zarr_array.bytes_in(folder.path)
    array = plain or zarr_array.open_array(spec, name, str(folder), there=there, trust_spec=bare)
    told = tuple(leaf.get("metadata", {}).get("shape", array.info.shape))
    if told != array.info.shape:
        raise UserError(
            f"array '{name}' is {array.info.shape} in {folder} and {told} in {place}/{MESSAGE}: "
            "the checkpoint is mixed from two, copy it again"
        )
    return array


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, Mapping) and "driver" in leaf and "kvstore" in leaf


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Path -> array or spec, in natural order; empty places (None) are left out."""
    found: dict[str, Any] = {}
    for key in sorted(tree, key=lambda key: _natural((str(key),))):
        value, name = tree[key], f"{prefix}{key}"
        if isinstance(value, Mapping) and not _is_spec(value):
            found |= _leaves(value, f"{name}/")
        elif value is not None:
            found[name] = value
    return found


def _value(place: Place, name: str, leaf: Any) -> np.ndarray:
    if _is_spec(leaf):
        return _native_array(place, name, leaf).read()
    value = np.asarray(leaf)
    if value.dtype == object or math.prod(value.shape) != value.size:
        raise UserError(
            f"array '{name}' in {place}/{MESSAGE} is no array: copy the checkpoint again"
        )
    return value


def _natural(path: tuple[str, ...]) -> list[tuple[str, int]]:
    """Sorts layers_2 before layers_10."""
    return [
        (head, int(number or -1))
        for part in path
        for head, number in re.findall(r"(\D+)(\d*)", part)
    ]


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
