"""Parameters from wherever they lie: a run's MODEL_DIR, one of its checkpoints, or an export without optimizer state.

An export is a folder `params/` as orbax writes it (compressed), beside `flanx.json`: model configuration, vocabulary,
format version.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from flanx import resources
from flanx.errors import UserError
from flanx.training.state import path_names

FORMAT_VERSION = 1
EXPORT_FACTS = "flanx.json"


def export_params(
    path: str | Path,
    params: Any,
    dtype: str = "bfloat16",
    facts: Mapping[str, Any] | None = None,
    vocabulary_file: str | Path | None = None,
) -> None:
    """Writes parameters alone, to start other runs from.

    Args:
      path: a folder that is not there yet or empty.
      params: nested dict of arrays.
      dtype: "bfloat16" (half the size) or "float32" (exact).
      facts: stored beside them, as `run_info.facts` makes it: {"model": ..., "vocabulary": ...}.
      vocabulary_file: copied beside them as `vocabulary.model`.

    Raises:
      UserError: the folder holds something, or an unknown dtype.
    """
    folder = Path(path).absolute()
    if dtype not in ("bfloat16", "float32"):
        raise UserError(f"export dtype '{dtype}': give bfloat16 or float32")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty: export to a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    cast = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    with _checkpointer() as checkpointer:
        checkpointer.save(folder / "params", args=ocp.args.StandardSave(cast))
    if jax.process_index() == 0:
        content = {"format_version": FORMAT_VERSION, "dtype": dtype, **(facts or {})}
        (folder / EXPORT_FACTS).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        if vocabulary_file is not None:
            shutil.copyfile(vocabulary_file, folder / "vocabulary.model")


def restore_params(path: str, abstract: Any, facts: Mapping[str, Any] | None = None) -> Any:
    """Parameters to start from, cast to float32 and laid out as `abstract` says.

    Args:
      path: a MODEL_DIR (its newest checkpoint), `MODEL_DIR/checkpoints/<step>`, or an export; may be `pkg://...`.
      abstract: nested dict of float32 `jax.ShapeDtypeStruct`, with or without shardings.
      facts: of this run; its vocabulary must be the checkpoint's.

    Raises:
      UserError: nothing there, another vocabulary, or an array that is missing or has another shape.
    """
    folder = find_params(path)
    check_facts(read_facts(folder), facts or {}, path)
    check_shapes(stored_shapes(folder / "params"), abstract, path)
    return read_tree(folder / "params", abstract)


def find_params(path: str) -> Path:
    """The folder that holds `params/` and the facts beside it.

    Raises:
      UserError: there is none.
    """
    folder = Path(resources.resolve(path)).absolute()
    if (folder / "params").is_dir():
        return folder
    steps = _whole_steps(folder / "checkpoints") or _whole_steps(folder)
    if steps:
        return steps[-1]
    raise UserError(
        f"no parameters at '{path}': give a MODEL_DIR, one of its checkpoints/<step>, or exported parameters"
    )


def read_facts(folder: Path) -> dict[str, Any]:
    """The JSON beside `params/`: of a checkpoint (`run/metadata`) or an export; empty where there is none.

    Raises:
      UserError: a later flanx wrote it.
    """
    for name in ("run/metadata", EXPORT_FACTS):
        if (folder / name).is_file():
            facts = json.loads((folder / name).read_text())
            if facts.get("format_version", 0) > FORMAT_VERSION:
                raise UserError(
                    f"{folder} has checkpoint format {facts['format_version']}, this flanx reads up to "
                    f"{FORMAT_VERSION}: update flanx"
                )
            return facts
    return {}


def check_facts(stored: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """A checkpoint's vocabulary must be the one its tokens come from, as far as both are known.

    The number of sentinels may differ: it moves no other id.

    Raises:
      UserError: it is another.
    """
    theirs, ours = stored.get("vocabulary"), wanted.get("vocabulary")
    if theirs and ours and _pieces(theirs) != _pieces(ours):
        raise UserError(
            f"vocabulary: {where} was trained with '{theirs['spec']}' ({theirs['size']} ids), this run's data has "
            f"'{ours['spec']}' ({ours['size']} ids); set VOCABULARY to the checkpoint's, or choose another checkpoint"
        )


def check_shapes(
    stored: Mapping[tuple[str, ...], tuple[int, ...]], wanted: Any, where: str
) -> None:
    """Every array of `wanted` must be stored with its shape, and nothing beside them.

    Raises:
      UserError: naming the array and both shapes.
    """
    shapes = {path_names(p): tuple(x.shape) for p, x in jax.tree.leaves_with_path(wanted)}
    for path, shape in shapes.items():
        name = "/".join(path)
        if path not in stored:
            raise UserError(
                f"{where} has no array '{name}', which this model has {shape}: MODEL is not the checkpoint's"
            )
        if stored[path] != shape:
            raise UserError(
                f"'{name}' is {stored[path]} in {where}, and {shape} in this model: MODEL is not the checkpoint's"
            )
    extra = sorted(set(stored) - set(shapes))
    if extra:
        name = "/".join(extra[0])
        raise UserError(
            f"{where} has an array '{name}' {stored[extra[0]]} that this model has not: MODEL is not the checkpoint's"
        )


def stored_shapes(folder: Path) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path -> shape of every array in an orbax folder, without reading any."""
    with _checkpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
    return {path_names(p): tuple(x.shape) for p, x in jax.tree.leaves_with_path(tree)}


def read_tree(folder: Path, abstract: Any) -> Any:
    """Arrays of an orbax folder, with the dtypes and shardings of `abstract`."""
    with _checkpointer() as checkpointer:
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(abstract))


def _checkpointer() -> ocp.Checkpointer:
    """Orbax for one tree of arrays; its remarks on the log are of no use to anyone (errors are exceptions)."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.Checkpointer(ocp.StandardCheckpointHandler())


def _pieces(vocabulary: Mapping[str, Any]) -> str:
    """The fingerprint without the number of sentinels at its end."""
    return vocabulary["fingerprint"].rpartition("+")[0] or vocabulary["fingerprint"]


def _whole_steps(folder: Path) -> list[Path]:
    """Folders of whole checkpoints, oldest first: orbax gives a number as a name to those alone."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.isdigit() and (p / "params").is_dir()]
    return sorted(found, key=lambda p: int(p.name))
