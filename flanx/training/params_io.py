"""Where parameters lie, and flanx's own way to write and read them; `flanx.interop` reads the other forms.

An export is a folder `params/` as orbax writes it (compressed), beside `flanx.json`: model configuration, vocabulary,
format version.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath

from flanx import digests, resources
from flanx.errors import UserError
from flanx.interop import json_text
from flanx.sharding.trees import path_names

FORMAT_VERSION = 1
EXPORT_FACTS = "flanx.json"
RUN_FILES = ("config.gin", "run.json")  # what a MODEL_DIR has before its first checkpoint
T5X_FOLDER = "checkpoint_"
HF_CONFIG = "config.json"
VOCABULARY = "vocabulary.model"


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
            shutil.copyfile(vocabulary_file, folder / VOCABULARY)
        digests.write(folder, ("params", EXPORT_FACTS, VOCABULARY))


def find_params(path: str | os.PathLike[str], step: int | None = None) -> Path:
    """The folder of one checkpoint, of whatever form, that `path` means.

    Args:
      path: a MODEL_DIR, its `checkpoints`, or one of them; exported parameters; a T5X `checkpoint_<step>` or the folder
        that holds several; a Hugging Face folder. May be `pkg://...`.
      step: which of several; None for the newest.

    Raises:
      UserError: no such folder, no checkpoint in it, or none of that step.
    """
    if "://" in str(path) and not str(path).startswith(
        (resources.PACKAGE_SCHEME, resources.FILE_SCHEME)
    ):
        raise UserError(
            f"'{path}' is not on this machine: copy it (gcloud storage cp -r {path} ., say) and give the copy"
        )
    folder = resources.absolute(resources.resolve_checkpoint(str(path)))
    if _is_checkpoint(folder):
        if step is not None and str(step) != folder.name.removeprefix(T5X_FOLDER):
            raise UserError(f"step {step}: '{path}' is one checkpoint by itself, not several")
        return folder
    steps = _steps(folder / "checkpoints") or _steps(folder)
    if not steps:
        if any((folder / name).exists() for name in RUN_FILES):
            raise UserError(f"'{path}' has no checkpoint yet; train it first")
        raise UserError(
            f"no checkpoint at '{path}': give a MODEL_DIR, one of its checkpoints/<step>, exported parameters, a T5X "
            "checkpoint_<step>, or a Hugging Face folder"
        )
    if step is not None and step not in steps:
        known = ", ".join(map(str, sorted(steps)))
        raise UserError(f"step {step}: '{path}' has no such checkpoint (it has {known})")
    return steps[max(steps) if step is None else step]


def read_facts(folder: Path) -> dict[str, Any]:
    """The JSON beside `params/`: of a checkpoint (`run/metadata`) or an export; empty where there is none.

    Raises:
      UserError: a later flanx wrote it.
      ValueError: it is damaged (a run then goes back to the checkpoint before).
    """
    for name in ("run/metadata", EXPORT_FACTS):
        if (folder / name).is_file():
            facts = json_text.parse((folder / name).read_bytes())
            if not isinstance(facts, dict) or not isinstance(facts.get("format_version", 0), int):
                raise ValueError(f"{name} is not what flanx writes")
            if facts.get("format_version", 0) > FORMAT_VERSION:
                raise UserError(
                    f"{folder} has checkpoint format {facts['format_version']}, this flanx reads up to "
                    f"{FORMAT_VERSION}: update flanx"
                )
            return facts
    return {}


def check_vocabulary(
    theirs: Mapping[str, Any] | None, ours: Mapping[str, Any] | None, where: str
) -> None:
    """A checkpoint's vocabulary must be the one its tokens come from, as far as both are known.

    The number of sentinels may differ: it moves no other id.

    Args:
      theirs: {"spec", "fingerprint", "size"} of the checkpoint's; empty or None where it is not known.
      ours: of the run's data.
      where: names the checkpoint.

    Raises:
      UserError: it is another.
    """
    if theirs and ours and _pieces(theirs) != _pieces(ours):
        raise UserError(
            f"vocabulary: {where} was trained with '{theirs['spec']}' ({theirs['size']} ids), this run's data has "
            f"'{ours['spec']}' ({ours['size']} ids); set VOCABULARY to the checkpoint's, or choose another checkpoint"
        )


def stored_shapes(folder: Path) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Path -> shape of every array in an orbax folder, without reading any."""
    with _checkpointer() as checkpointer:
        tree = checkpointer.metadata(folder).item_metadata.tree
    return {path_names(p): tuple(x.shape) for p, x in jax.tree.leaves_with_path(tree)}


def read_tree(folder: Path, abstract: Any) -> Any:
    """Arrays of an orbax folder, with the dtypes and shardings of `abstract`."""
    # Orbax's checkpointer would have all processes wait here for each other, and for one that cannot read for ever.
    with closing(_handler()) as handler:
        return handler.restore(epath.Path(folder), args=ocp.args.StandardRestore(abstract))


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(_handler())


def _handler() -> ocp.StandardCheckpointHandler:
    """Orbax for one tree of arrays; its remarks on the log are of no use to anyone (errors are exceptions)."""
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return ocp.StandardCheckpointHandler()


def _pieces(vocabulary: Mapping[str, Any]) -> str:
    """The fingerprint without the number of sentinels at its end."""
    return vocabulary["fingerprint"].rpartition("+")[0] or vocabulary["fingerprint"]


def _steps(folder: Path) -> dict[int, Path]:
    """Whole checkpoints by step: orbax and T5X give a number as a name, or as its end, to those alone."""
    if not folder.is_dir():
        return {}
    named = ((entry.name.removeprefix(T5X_FOLDER), entry) for entry in folder.iterdir())
    return {int(n): entry for n, entry in named if n.isdecimal() and _is_checkpoint(entry)}


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one checkpoint: flanx's, T5X's in either form, or Hugging Face's."""
    if (folder / "params").is_dir() or (folder / HF_CONFIG).is_file():
        return True
    return (folder / "checkpoint").is_file() or (folder / "state").is_dir()
