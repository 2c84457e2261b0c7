"""`flanx cache --verify` of a folder: every store that is there against its checksum; no source is needed."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from flanx.data import manifest as manifests
from flanx.data import store
from flanx.errors import UserError
from flanx.prep import progress as displays
from flanx.prep import prune, server
from flanx.prep.progress import Progress


@dataclass(frozen=True)
class Verified:
    """What a look at a cache folder found.

    Attributes:
      whole, size: stores that are whole, and the bytes of their tokens.
      damaged: what is wrong, a line each.
    """

    whole: int
    size: int
    damaged: tuple[str, ...]


def verify_folder(
    cache_dir: str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Compares every store of a folder with its checksum, and with the manifests that refer to it.

    Args:
      cache_dir: the cache folder; nothing in it is changed.
      workers: threads (reading and hashing leave Python's lock); None for one a core.
      progress: display; None for a bar on a terminal and lines elsewhere.

    Raises:
      UserError: there is no such folder, or no store in it.
    """
    root = Path(cache_dir).expanduser()
    if not root.is_dir():
        raise UserError(f"no such cache folder: {root}")
    there = prune.stores(root)
    expected, damaged = _expected(root)
    missing = sorted(set(expected) - set(there))
    if not there and not missing and not damaged:
        raise UserError(f"{root} holds no token store")
    damaged += [f"{root / path}: missing, but {expected[path][0]} refers to it" for path in missing]
    sizes = {path: _size(root / path) for path in there}
    threads = max(server.core_count() if workers is None else workers, 1)
    whole = size = 0
    with progress or displays.default() as shown, ThreadPoolExecutor(threads) as pool:
        shown.start(len(there), float(sum(sizes.values())))
        found = pool.map(lambda path: _look(root, path, expected.get(path)), there)
        for path, (examples, wrong) in zip(there, found, strict=True):
            if wrong is None:
                whole += 1
                size += sizes[path]
            else:
                damaged.append(wrong)
                shown.warn(wrong)
            shown.advance(path, examples, float(sizes[path]))
    return Verified(whole, size, tuple(damaged))


def _look(
    root: Path, path: str, expected: tuple[str, manifests.Entry] | None
) -> tuple[int, str | None]:
    """The store's examples, and what is wrong with it."""
    try:
        store.verify(root / path)
        meta = store.open(root / path).meta
    except store.StoreDamaged as damage:
        return 0, str(damage)
    if expected is not None:
        name, entry = expected
        if (meta["content"], meta["examples"]) != (entry.content, entry.examples):
            return 0, f"{root / path}: holds other tokens than {name} says"
    return int(meta["examples"]), None


def _expected(root: Path) -> tuple[dict[str, tuple[str, manifests.Entry]], list[str]]:
    """What this version's manifests say of each store; and the manifests that cannot be read."""
    found = {}
    damaged = []
    for path in _manifests(root):
        try:
            manifest = manifests.load(path)
        except (OSError, ValueError) as error:
            damaged.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
            continue
        for entry in manifest.entries:
            found[entry.path] = (path.name, entry)
    return found, damaged


def _manifests(root: Path) -> Iterator[Path]:
    yield from sorted((root / "manifests").glob("[!.]*.json"))


def _size(folder: Path) -> int:
    try:
        return (folder / store.TOKENS).stat().st_size
    except OSError:
        return 0
