"""Where rows come from: files, functions, collections, rows held out of others."""

from flanx.registry.sources.row_sources import (
    FileSource,
    Generated,
    Jsonl,
    Parquet,
    Row,
    RowSource,
    Tsv,
)

__all__ = ["FileSource", "Generated", "Jsonl", "Parquet", "Row", "RowSource", "Tsv"]
