"""What evaluation examples say, as runs of words: the index that Decontaminate compares examples with.

    <cache_dir>/overlaps/<key>.arrow    length (uint8) and run (uint64), sorted: which runs of how many words

The runs are those of the evaluation rows' own fields, options included, each field by itself: neither the words of a
template nor an instruction that all rows share are evidence. Examples are then compared as they are rendered, inputs
and targets, so that an evaluation question among the exemplars of a few-shot example is found as well. Brown et al.
2020 (appendix C) compare 13 words; a field of fewer counts as a whole, down to `shortest` words.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from flanx.data.filters import Decontaminate
from flanx.errors import UserError
from flanx.prep.filtering import arrow_file, ngrams

# In the key of every overlap index, and so of every store that is compared with one. Raise it when the same evaluation
# rows give other runs, the same runs meet other texts, or the file has another layout.
VERSION = 1
_COMMON_ROWS = 10  # a run in no more rows than these is never a dataset's wording


def evidence(rows: Iterable[Sequence[str]], settings: Decontaminate) -> dict[int, np.ndarray]:
    """The runs that tell a dataset's rows, by their length in words; np.uint64 without repeats.

    Args:
      rows: the texts of each row.
      settings: lengths, and how common a run may be.
    """
    found: dict[int, list[np.ndarray]] = {}
    count = 0
    for texts in rows:
        count += 1
        own: dict[int, list[np.ndarray]] = {}
        for text in texts:
            hashes = ngrams.word_hashes(text)
            length = min(settings.words, len(hashes))
            if length >= settings.shortest:
                own.setdefault(length, []).append(ngrams.runs(hashes, length))
        for length, parts in own.items():
            found.setdefault(length, []).append(np.unique(np.concatenate(parts)))
    most = max(_COMMON_ROWS, settings.common * count)
    rare = {}
    for length, parts in found.items():
        runs, times = np.unique(np.concatenate(parts), return_counts=True)
        rare[length] = runs[times <= most]
    return rare


def write(path: Path, runs: Mapping[int, Sequence[np.ndarray]]) -> int:
    """Writes an index of runs by their length in words, those of each dataset apart; returns how many it holds."""
    joined = {n: np.unique(np.concatenate(parts)) for n, parts in sorted(runs.items())}
    lengths = [np.full(len(runs), n, np.uint8) for n, runs in joined.items()]
    table = pa.record_batch(
        {
            "length": np.concatenate([np.zeros(0, np.uint8), *lengths]),
            "run": np.concatenate([np.zeros(0, np.uint64), *joined.values()]),
        }
    )
    with arrow_file.writing(path, table.schema) as writer:
        writer.write_batch(table)
    return int(table.num_rows)


class Index:
    """Says whether a text shares a run of words with evaluation rows.

    Args:
      runs: sorted np.uint64 without repeats, by their length in words.
    """

    def __init__(self, runs: Mapping[int, np.ndarray]):
        self._runs = runs

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Index":
        """The index of a file, memory-mapped; raises UserError where it is damaged."""
        found = opened(Path(path))
        if found is None:
            raise UserError(f"{path} is damaged; remove it and run again")
        return cls(found)

    def meets(self, text: str) -> bool:
        """Whether any run of the index stands in the text."""
        every = ngrams.runs_of_lengths(ngrams.word_hashes(text), self._runs)
        for known, own in zip(self._runs.values(), every, strict=True):
            if len(own) and len(known):
                # A run above all known ones has the place behind the last: clipped, it is compared and differs.
                places = np.searchsorted(known, own)
                if (known.take(places, mode="clip") == own).any():
                    return True
        return False


def opened(path: Path) -> dict[int, np.ndarray] | None:
    """Sorted runs by length; None where the file is not there or not whole."""
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (OSError, pa.ArrowException, ValueError):
        return None
    lengths, runs = batch.column("length").to_numpy(), batch.column("run").to_numpy()
    bounds = np.searchsorted(lengths, np.arange(257))
    return {n: runs[bounds[n] : bounds[n + 1]] for n in np.unique(lengths).tolist()}
