"""The files that filters keep in the cache folder: Arrow, whole and on the disk or not there at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from flanx import atomic_files, temporary


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str], schema: pa.Schema
) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    """Gives what writes record batches; the file has its name when all are written and the disk has them.

    Raises:
      OSError: the disk is full, say; nothing is left behind.
    """
    parent = Path(path).parent
    parent.mkdir(parents=True, exist_ok=True)
    temporary.sweep(parent)
    with atomic_files.writing(path, sync=True) as handle, pa.ipc.new_file(handle, schema) as writer:
        yield writer
