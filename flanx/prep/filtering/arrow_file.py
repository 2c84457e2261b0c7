"""The files that filters keep in the cache folder: Arrow, whole and on the disk or not there at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from flanx import temporary


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str], schema: pa.Schema
) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    """Gives what writes record batches; the file has its name when all are written and the disk has them.

    Raises:
      OSError: the disk is full, say; nothing is left behind.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary.sweep(final.parent)
    unfinished = final.with_name(f"{temporary.prefix()}{final.name}")
    try:
        with unfinished.open("wb") as handle:
            with pa.ipc.new_file(handle, schema) as writer:
                yield writer
            handle.flush()
            os.fsync(handle.fileno())
        unfinished.replace(final)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
