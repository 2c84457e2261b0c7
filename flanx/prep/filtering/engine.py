"""What filtered stores are keyed with: the code that filters, the user's functions, the libraries, the rows."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from flanx.data.filters import Decontaminate, Filter, Function, Language, NearDuplicates, to_json
from flanx.errors import UserError, did_you_mean
from flanx.prep.filtering import content, libraries
from flanx.registry import fingerprint as fp
from flanx.registry.loading import import_users
from flanx.registry.spec import TaskSpec

_ROWWISE = ("ngrams.py", "content.py", "example.py", "sieve.py", "overlap.py")
_LIBRARIES = {Language: "py3langid", NearDuplicates: "datasketch"}


@functools.cache
def engine_fingerprint(modules: tuple[str, ...] = _ROWWISE) -> str:
    """Hash of modules of this package; those that judge single examples unless said."""
    digest = hashlib.blake2b(digest_size=8)
    for name in modules:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.hexdigest()


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
            parts["code"] = fp.code_hash(function(one))
        if isinstance(one, Decontaminate):
            parts["index"] = next(names)
        described.append(parts)
    return {"filters": described, "engine": engine_fingerprint()}


def described(
    spec: TaskSpec, split: str, data_dir: str | None, max_examples: int | None
) -> dict[str, Any]:
    """JSON-able description of all that decides what the rows of a task's dataset say."""
    return {
        "dataset": spec.dataset,
        "fields": fp.code_hash(spec.fields),
        "source": spec.source.fingerprint(split, data_dir),
        "split": split,
        "max_examples": max_examples,
        "names": content.names(spec),
        "engine": fp.engine_hash(),
    }


def files(filters: Iterable[Filter]) -> list[str]:
    """Code files that filtered stores depend on: flanx's, the user's and the libraries'.

    Raises:
      UserError: a library or a user's function is missing.
    """
    chosen = list(filters)
    if not chosen:
        return []
    here = Path(__file__).parent
    found = [*here.glob("*.py"), here.parents[1] / "data/filters.py"]
    for one in chosen:
        if type(one) in _LIBRARIES:
            module = libraries.load(_LIBRARIES[type(one)], type(one).__name__)
            found.append(Path(str(module.__file__)))
        if isinstance(one, Function):
            found += map(Path, fp.code_files(function(one)))
    return sorted({os.path.abspath(path) for path in found})


def function(one: Function) -> Callable[..., Any]:
    """The user's function.

    Raises:
      UserError: there is no such module, or no such function in it.
    """
    module_name, _, name = one.name.partition(":")
    module = import_users(module_name, f"filter Function('{one.name}')")
    found = getattr(module, name, None)
    if not callable(found):
        raise UserError(
            f"filter Function('{one.name}'): module '{module_name}' has no function '{name}'"
            f"{did_you_mean(name, (n for n, v in vars(module).items() if callable(v)))}"
        )
    return found
