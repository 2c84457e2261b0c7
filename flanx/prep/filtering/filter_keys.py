"""What filtered stores are keyed with: the versions of what filters, the user's functions, the libraries, the rows."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flanx.data.filters import Decontaminate, Filter, Function, Language, NearDuplicates, to_json
from flanx.prep.filtering import content, libraries, ngrams, row_filters, user_function
from flanx.registry import draws
from flanx.registry.rendering import renderer
from flanx.registry.spec import TaskSpec
from flanx.user_code.code_hash import code_files, code_hash

_LIBRARIES = {Language: "py3langid", NearDuplicates: "datasketch"}


def fingerprint(
    filters: Sequence[Filter], overlaps: Sequence[str], spec: TaskSpec | None
) -> dict[str, Any]:
    """What decides what row-wise filters do, JSON-able, for the key of a store.

    Args:
      filters: the filters.
      overlaps: index file of each Decontaminate among them, in order.
      spec: the task; None for a SeqIO task that flanx did not register.
    """
    names = iter(overlaps)
    described = []
    for one in filters:
        parts = to_json(one)
        if type(one) in _LIBRARIES:
            parts["library"] = libraries.version(_LIBRARIES[type(one)])
        if isinstance(one, Language) and spec is not None:
            parts["names"] = content.names(spec)
        if isinstance(one, Function):
            parts["code"] = code_hash(user_function.load(one))
        if isinstance(one, Decontaminate):
            parts["index"] = next(names)
        described.append(parts)
    versions = {
        "filters": row_filters.VERSION,
        "content": content.VERSION,
        "ngrams": ngrams.VERSION,
    }
    return {"filters": described, "versions": versions}


def described(
    spec: TaskSpec, split: str, data_dir: str | None, max_examples: int | None
) -> dict[str, Any]:
    """JSON-able description of all that decides what the rows of a task's dataset say."""
    return {
        "dataset": spec.dataset,
        "fields": code_hash(spec.fields),
        "source": spec.source.fingerprint(split, data_dir),
        "split": split,
        "max_examples": max_examples,
        "names": content.names(spec),
        "versions": {
            "draws": draws.VERSION,
            "rendering": renderer.VERSION,
            "content": content.VERSION,
            "ngrams": ngrams.VERSION,
        },
    }


def files(filters: Iterable[Filter]) -> list[str]:
    """Code files that filtered stores depend on: the user's, and the libraries'.

    Raises:
      UserError: a library or a user's function is missing.
    """
    found: list[Path] = []
    for one in filters:
        if type(one) in _LIBRARIES:
            module = libraries.load(_LIBRARIES[type(one)], type(one).__name__)
            found.append(Path(str(module.__file__)))
        if isinstance(one, Function):
            found += map(Path, code_files(user_function.load(one)))
    return sorted({os.path.abspath(path) for path in found})
