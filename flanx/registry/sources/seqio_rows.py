"""Any `seqio.DataSource` as a source of rows: TFDS, text lines, TFRecords, functions."""

import sys
from collections.abc import Iterator
from typing import Any

from flanx.registry.sources.row_sources import Row
from flanx.user_code.code_hash import code_hash

# In the key of every store made of a SeqIO source. Raise it when the source's unchanged examples give other rows.
VERSION = 1


class SeqioRows:
    """The examples of a `seqio.DataSource` as plain Python rows, in the order of its unshuffled dataset.

    Bytes become texts, arrays lists, scalars Python numbers. Nothing is read, not even the names of the splits,
    before they are asked for.
    """

    lazy_splits = True  # asking TFDS for its splits may go to the network

    def __init__(self, source: Any) -> None:
        self._source = source

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._source.splits)

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        dataset = self._source.get_dataset(split=split, shuffle=False)
        for example in dataset.as_numpy_iterator():
            yield _plain(example)

    def count(self, split: str, data_dir: str | None = None) -> int:
        known = self._source.num_input_examples(split)
        return known if known is not None else sum(1 for _ in self.rows(split))

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        return []

    def fingerprint(self, split: str, data_dir: str | None = None) -> dict[str, Any]:
        source = self._source
        described: dict[str, Any] = {
            "source": type(source).__name__,
            "version": VERSION,
            "split": split,
        }
        function = getattr(source, "_dataset_fn", None)
        if function is not None:
            described["code"] = code_hash(function)
        else:
            described["as"] = str(source)
        known = source.num_input_examples(split)
        if known is not None:
            described["count"] = int(known)
        return described

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        return f"{type(self._source).__name__} {split} row {index}"

    def __repr__(self) -> str:
        return f"SeqioRows({type(self._source).__name__})"


def wrapped(source: Any) -> Any:
    """`source` as a source of rows where it is a `seqio.DataSource`; anything else as it is."""
    seqio = sys.modules.get("seqio")
    is_seqio = seqio is not None and isinstance(source, getattr(seqio, "DataSource", ()))
    return SeqioRows(source) if is_seqio else source


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "to_list"):  # a ragged tensor's value
        return _plain(value.to_list())
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return value
