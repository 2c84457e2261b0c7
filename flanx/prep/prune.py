"""`flanx cache --prune`: removes the stores, and files of filters, that no manifest of the folder refers to."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flanx import temporary
from flanx.errors import UserError
from flanx.prep import lock

_STORE = re.compile(r"[^.].*-[0-9a-f]{16}")
_PARTS = re.compile(r"\.parts-.+-[0-9a-f]{16}")


@dataclass(frozen=True)
class Leftover:
    """A folder or file that nothing needs: where it is, relative to the cache folder, and its bytes."""

    path: str
    size: int


def leftovers(cache_dir: str | os.PathLike[str]) -> list[Leftover]:
    """Stores without a manifest, parts of tasks that were never joined, and what dead processes left; sorted by path.

    Only folders that are named like stores count, one level below the cache folder; whatever else lies there is left
    alone, and so is what a living process is writing.

    Raises:
      UserError: there is no such folder, or a manifest cannot be read, so that nobody knows what it needs.
    """
    root = Path(cache_dir).expanduser()
    if not (root / "manifests").is_dir():
        raise UserError(f"{root} is no cache folder: it has no 'manifests'")
    needed = set(_needed(root))
    found = []
    for name, entry in _folders(root):
        path = f"{name}/{entry}"
        if entry.startswith(".tmp-"):
            gone = temporary.abandoned(root / path)
        else:
            gone = bool(_PARTS.fullmatch(entry)) or (
                bool(_STORE.fullmatch(entry)) and path not in needed
            )
        if gone:
            found.append(Leftover(path, _size(root / path)))
    for file in sorted([*root.glob("overlaps/*.arrow"), *root.glob("sketches/*/*.arrow")]):
        path = file.relative_to(root).as_posix()
        if path not in needed and (not file.name.startswith(".tmp-") or temporary.abandoned(file)):
            found.append(Leftover(path, file.stat().st_size))
    return sorted(found, key=lambda one: one.path)


def prune(cache_dir: str | os.PathLike[str]) -> list[Leftover]:
    """Removes the leftovers, and task folders that are empty then.

    Returns:
      What was removed.

    Raises:
      UserError: as `leftovers`; or a flanx cache is at work in the folder.
    """
    root = Path(cache_dir).expanduser()
    leftovers(root)  # refuses what is no cache folder, before a lock is written there
    with lock.removing(root):
        found = leftovers(root)
        for one in found:
            path = root / one.path
            path.unlink() if path.is_file() else shutil.rmtree(path)
        for parent in {(root / one.path).parent for one in found}:
            if not any(parent.iterdir()):
                parent.rmdir()
    return found


def stores(cache_dir: str | os.PathLike[str]) -> list[str]:
    """Every folder that is named like a store, relative to the cache folder, sorted."""
    root = Path(cache_dir).expanduser()
    return [f"{name}/{entry}" for name, entry in _folders(root) if _STORE.fullmatch(entry)]


def _folders(root: Path) -> Iterator[tuple[str, str]]:
    for name in sorted(os.listdir(root)):
        parent = root / name
        if name != "manifests" and not parent.is_symlink() and parent.is_dir():
            for entry in sorted(os.listdir(parent)):
                if not (parent / entry).is_symlink() and (parent / entry).is_dir():
                    yield name, entry


def _needed(root: Path) -> Iterator[str]:
    """Store folders that manifests refer to, whatever version of flanx wrote them."""
    for path in sorted((root / "manifests").glob("[!.]*.json")):
        try:
            manifest = json.loads(path.read_bytes())
            for entry in manifest["entries"]:
                yield entry["path"]
            yield from manifest.get("unread", ())
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path} is not a readable manifest ({error!r}), so what it needs is unknown: remove it, or "
                "run flanx cache for its mixture again"
            ) from None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
