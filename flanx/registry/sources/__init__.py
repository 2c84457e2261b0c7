"""Where rows come from: files, functions, collections, SeqIO's sources, rows held out of others."""

from flanx.registry.sources.held_out import HeldOut
from flanx.registry.sources.natural_instructions import NaturalInstructions
from flanx.registry.sources.row_sources import (
    FileSource,
    Generated,
    Jsonl,
    Parquet,
    Row,
    RowSource,
    Tsv,
)

__all__ = [
    "FileSource",
    "Generated",
    "HeldOut",
    "Jsonl",
    "NaturalInstructions",
    "Parquet",
    "Row",
    "RowSource",
    "Tsv",
]
