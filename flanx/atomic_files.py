"""Files that a reader finds old or new, never in part, whatever stops the writer.

What a killed writer leaves beside them, `flanx.temporary.sweep` removes.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from flanx import temporary


def write(path: os.PathLike[str] | str, content: str | bytes, *, sync: bool = False) -> None:
    """Writes beside `path` and renames; folders that are missing are made, a failure leaves nothing behind.

    Args:
      path: a local path, or an address that etils knows (`gs://...`).
      content: the whole file.
      sync: wait until the disk has it before it gets its name; of a local file alone.
    """
    data = content.encode() if isinstance(content, str) else content
    if "://" not in os.fspath(path):
        with writing(path, sync=sync) as handle:
            handle.write(data)
        return
    from etils import epath  # a bucket's libraries are for those who have one

    final = epath.Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = final.parent / f"{temporary.prefix()}{final.name}"
    try:
        unfinished.write_bytes(data)
        unfinished.replace(final)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing(path: os.PathLike[str] | str, *, sync: bool = False) -> Iterator[BinaryIO]:
    """Gives a file to write to beside a local `path`, which takes its name at the end; nothing is left of a failure.

    Args:
      path: its folder is made where it is missing.
      sync: wait until the disk has the file before it gets its name, so that a power cut leaves no empty one.

    Raises:
      OSError: the disk is full, say.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = final.with_name(f"{temporary.prefix()}{final.name}")
    try:
        with unfinished.open("wb") as handle:
            yield handle
            if sync:
                handle.flush()
                os.fsync(handle.fileno())
        unfinished.replace(final)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
