"""A validation split for data that has none: rows held out by a hash of their text."""

from collections.abc import Iterator, Sequence
from typing import Any

from flanx.errors import UserError
from flanx.registry.draws import fraction
from flanx.registry.sources.row_sources import Row, RowSource
from flanx.registry.sources.seqio_rows import wrapped

# In the key of every store that rows are held out from, or for. Raise it when other rows are held out of the same ones.
VERSION = 1


class HeldOut:
    """`source` with a share of one split's rows moved to another.

    A row goes by the hash of its `key` columns, so rows that agree in them stay together, and the same rows are held
    out whatever else is added to the file.

    Args:
      source: where the rows come from: a `RowSource`, or a `seqio.DataSource`.
      share: share of the rows to hold out, in (0, 1).
      key: column, or columns, that no two splits may share a value of.
      split: split to take from.
      into: the new split.
    """

    def __init__(
        self,
        source: Any,
        share: float = 0.05,
        *,
        key: str | Sequence[str],
        split: str = "train",
        into: str = "validation",
    ) -> None:
        source = wrapped(source)
        if not isinstance(source, RowSource):
            raise UserError(f"HeldOut: {source!r} is no source; give flanx.Jsonl(train='...'), say")
        if into in source.splits:
            raise UserError(f"HeldOut: {source!r} has a split '{into}' already")
        if split not in source.splits:
            raise UserError(f"HeldOut: {source!r} has no split '{split}' to hold out from")
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            raise UserError(f"HeldOut: share {share!r} is not between 0 and 1")
        self._source = source
        self._share = share
        self._key = (key,) if isinstance(key, str) else tuple(key)
        self._split = split
        self._into = into

    @property
    def splits(self) -> tuple[str, ...]:
        return (*self._source.splits, self._into)

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        return (row for _, row in self._numbered(split, data_dir))

    def count(self, split: str, data_dir: str | None = None) -> int:
        return sum(1 for _ in self._numbered(split, data_dir))

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        return self._source.files(self._origin(split), data_dir)

    def fingerprint(self, split: str, data_dir: str | None = None) -> dict[str, Any]:
        inner = self._source.fingerprint(self._origin(split), data_dir)
        if split not in (self._split, self._into):
            return inner
        held = {"share": self._share, "key": list(self._key), "split": split}
        return {"source": "HeldOut", "version": VERSION, "of": inner, **held}

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        for position, (number, _) in enumerate(self._numbered(split, data_dir)):
            if position == index:
                return self._source.where(self._origin(split), number, data_dir)
        return f"{split} row {index}"

    def _origin(self, split: str) -> str:
        return self._split if split == self._into else split

    def _numbered(self, split: str, data_dir: str | None) -> Iterator[tuple[int, Row]]:
        rows = enumerate(self._source.rows(self._origin(split), data_dir))
        if split not in (self._split, self._into):
            yield from rows
            return
        for number, row in rows:
            try:
                text = "\x1f".join(str(row[column]) for column in self._key)
            except KeyError as error:
                place = self._source.where(self._split, number, data_dir)
                raise UserError(
                    f"{place}: the row has no column {error}, which rows are held out by "
                    f"(it has {', '.join(row)})"
                ) from None
            if (fraction(text, "held out") < self._share) == (split == self._into):
                yield number, row

    def __repr__(self) -> str:
        return f"HeldOut({self._source!r}, {self._share}, key={self._key})"
