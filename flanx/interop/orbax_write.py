"""Writes a tree of arrays that Orbax restores, one array at a time (Orbax's own save wants all of them in memory).

The layout is Orbax's without OCDBT: a zarr folder for each array, named by its path with dots, `_METADATA` that
lists the tree, and `_CHECKPOINT_METADATA` that names the handler. A test reads it back with Orbax itself.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

_DICT_KEY = 2  # orbax.checkpoint._src.metadata.tree.KeyType.DICT
_HANDLERS = "orbax.checkpoint._src.handlers"
STANDARD = f"{_HANDLERS}.standard_checkpoint_handler.StandardCheckpointHandler"
PYTREE = f"{_HANDLERS}.pytree_checkpoint_handler.PyTreeCheckpointHandler"


def array_folder(folder: Path, path: str) -> Path:
    """Where the array at `path` ("encoder/layers_0/...") lies."""
    return folder / path.replace("/", ".")


def write_tree(folder: Path, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
    """Lists the arrays of a folder.

    Args:
      folder: that holds the arrays.
      shapes: path and shape of each.
    """
    tree = {}
    for path, shape in sorted(shapes):
        names = tuple(path.split("/"))
        tree[str(names)] = {
            "key_metadata": [{"key": name, "key_type": _DICT_KEY} for name in names],
            "value_metadata": {
                "value_type": "jax.Array",
                "skip_deserialize": False,
                "write_shape": list(shape),
            },
        }
    metadata = {
        "tree_metadata": tree,
        "use_ocdbt": False,
        "use_zarr3": False,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    (folder / "_METADATA").write_text(json.dumps(metadata))


def write_handlers(folder: Path, handlers: str | Mapping[str, str]) -> None:
    """Makes a folder a checkpoint.

    Args:
      folder: that holds the arrays and their list, or folders (items) that do.
      handlers: `STANDARD` or `PYTREE`, or one of them for each item.
    """
    now = time.time_ns()
    whole = {
        "item_handlers": handlers if isinstance(handlers, str) else dict(handlers),
        "metrics": {},
        "performance_metrics": {},
        "init_timestamp_nsecs": now,
        "commit_timestamp_nsecs": now,
        "custom_metadata": {},
    }
    (folder / "_CHECKPOINT_METADATA").write_text(json.dumps(whole))
