"""Digests of a checkpoint's files: written before it gets its name, compared when it is opened.

A disk, a network or a copy may change a bit, and compressed arrays have no checksum of their own: they would decode to
other values without a word. `digests.json` has each file's size and CRC-32, which finds every change within 32 bits for
certain and any other but for one in four billion. One process makes it when all have written, so it covers every file.
Checkpoints of before there were digests are opened as they are.
"""

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FILE = "digests.json"
BLOCK = 2**22
THREADS = 8  # most files read at a time; the checksum is made without Python's lock


class Damaged(ValueError):
    """A file is not what was written; the message names it."""


def write(folder: Path, items: Iterable[str]) -> None:
    """Leaves `digests.json` in `folder`.

    Args:
      folder: of a checkpoint or an export, whole.
      items: folders and files in it that are covered; what is not there is passed over.

    Raises:
      OSError: a file cannot be read, or there is no room.
    """
    names = [name for item in items for name in _files(folder, item)]
    found = {
        name: list(digest) for name, digest in zip(names, _digests(folder, names), strict=True)
    }
    text = json.dumps({"algorithm": "crc32", "files": found}, indent=0, sort_keys=True)
    (folder / FILE).write_text(text + "\n")


def check(
    folder: Path, items: Iterable[str] | None = None, *, share: tuple[int, int] = (0, 1)
) -> None:
    """Compares files with their digests; where there are none, there is nothing to compare.

    Args:
      folder: of a checkpoint or an export.
      items: folders and files in it that will be read; None for all that are covered.
      share: (i, n): look into the i-th of n parts of the files, where several processes look.

    Raises:
      Damaged: a file has other contents, is cut short or gone; or the digests themselves are damaged.
    """
    path = folder / FILE
    try:
        stored = json.loads(path.read_bytes())
        wanted = {str(name): (int(size), int(crc)) for name, (size, crc) in stored["files"].items()}
        if stored["algorithm"] != "crc32":
            raise ValueError(f"an unknown algorithm, {stored['algorithm']}")
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{FILE} is damaged") from error
    if items is not None:
        within = tuple(items)
        wanted = {name: digest for name, digest in wanted.items() if _in(name, within)}
    for name, (size, _) in wanted.items():
        _check_size(folder, name, size)
    names = sorted(wanted)[share[0] :: share[1]]
    for name, digest in zip(names, _digests(folder, names), strict=True):
        if digest != wanted[name]:
            raise Damaged(f"{name} is not what was written (its digest differs)")


def _check_size(folder: Path, name: str, size: int) -> None:
    try:
        there = (folder / name).stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Damaged(f"{name} is missing") from error
    if there != size:
        raise Damaged(f"{name} has {there:,} bytes instead of {size:,}")


def _in(name: str, items: tuple[str, ...]) -> bool:
    return any(name == item or name.startswith(f"{item}/") for item in items)


def _files(folder: Path, item: str) -> list[str]:
    """Files of an item, relative to the checkpoint's folder, in an order that does not change."""
    if (folder / item).is_file():
        return [item]
    found = (
        Path(root, name).relative_to(folder).as_posix()
        for root, _, names in os.walk(folder / item)
        for name in names
    )
    return sorted(found)


def _digests(folder: Path, names: list[str]) -> Iterator[tuple[int, int]]:
    threads = min(THREADS, os.cpu_count() or 1, len(names)) or 1
    with ThreadPoolExecutor(threads, "flanx-digests") as executor:
        yield from executor.map(lambda name: _digest(folder / name), names)


def _digest(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file."""
    size = crc = 0
    block = bytearray(BLOCK)
    view = memoryview(block)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            crc = zlib.crc32(view[:count], crc)
            size += count
    return size, crc
