"""Rows of a Parquet file, a few at a time: as many as take some megabytes, however large each is."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flanx.errors import UserError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_BATCH_BYTES = 1 << 24
_BATCH_ROWS = 1 << 14


def rows(file: str, columns: Sequence[str] | None) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(row number from 1, row) of each row.

    Args:
      columns: read these alone; None for all.

    Raises:
      UserError: no whole Parquet file, no such column, or two columns of one name.
    """
    import pyarrow.parquet as pq

    with _errors(file), pq.ParquetFile(file) as parquet:
        names = parquet.schema_arrow.names
        if missing := set(columns or ()) - set(names):
            raise UserError(f"{file}: no column '{min(missing)}' (it has {', '.join(names)})")
        for name in names if columns is None else columns:
            if names.count(name) > 1:
                raise UserError(
                    f"{file}: two columns of one name, {name!r}; write it with one of them renamed"
                )
        number = 0
        read = None if columns is None else list(columns)
        for batch in parquet.iter_batches(_batch_rows(parquet.metadata), columns=read):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def count(file: str) -> int:
    """Number of rows; raises UserError where it is no whole Parquet file."""
    import pyarrow.parquet as pq

    with _errors(file):
        return pq.read_metadata(file).num_rows


def _batch_rows(metadata: "pq.FileMetaData") -> int:
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    widest = max((one.total_byte_size / max(one.num_rows, 1) for one in groups), default=0)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(widest, 1))))


@contextlib.contextmanager
def _errors(file: str) -> Iterator[None]:
    import pyarrow as pa

    if os.path.isdir(file):
        raise UserError(f"{file}: a folder where a file is expected; name the files in it")
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise UserError(f"{file}: not a whole Parquet file ({text})") from None
