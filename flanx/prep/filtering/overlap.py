"""What evaluation examples say, as runs of words: the index that Decontaminate compares examples with.

    <cache_dir>/overlaps/<key>.arrow    length (uint8) and run (uint64), sorted: which runs of how many words

The runs are those of the evaluation rows' own fields, options included, each field by itself: neither the words of a
template nor an instruction that all rows share are evidence. Examples are then compared as they are rendered, inputs
and targets, so that an evaluation question among the exemplars of a few-shot example is found as well. Brown et al.
2020 (appendix C) compare 13 words; a field of fewer counts as a whole, down to `shortest` words.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from flanx import registry
from flanx.data.filters import Decontaminate, to_json
from flanx.errors import UserError
from flanx.prep.filtering import arrow_file, content, ngrams
from flanx.prep.filtering.engine import described, engine_fingerprint
from flanx.registry import Selected

if TYPE_CHECKING:
    from flanx.data.request import StoreRequest
    from flanx.data.vocabulary import Vocabulary
    from flanx.prep.work_item import WorkItem

FOLDER = "overlaps"
_COMMON_ROWS = 10  # a run in no more rows than these is never a dataset's wording
_MODULES = ("ngrams.py", "content.py", "overlap.py")


@dataclass(frozen=True)
class Overlap:
    """The evaluation examples of one Decontaminate filter.

    Attributes:
      settings: the filter.
      selected: one task of each evaluation dataset.
      data_dir: where relative data files are looked up.
      items: for SeqIO tasks that flanx did not register, what reads them, in the order of `selected`; else None.
      path: the index, relative to the cache folder.
      files: what the index depends on.
      notes: what the user should know of what is not compared with.
    """

    settings: Decontaminate
    selected: tuple[Selected, ...]
    data_dir: str | None
    items: tuple["WorkItem | None", ...]
    path: str
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def make(self, cache_dir: str | os.PathLike[str], words: "Vocabulary", force: bool) -> int:
        """Writes the index unless it is there.

        Returns:
          How many runs it holds.
        """
        final = Path(cache_dir) / self.path
        if not force and (there := _opened(final)) is not None:
            return sum(map(len, there.values()))
        found: dict[int, list[np.ndarray]] = {}
        for one, item in zip(self.selected, self.items, strict=True):
            rows = self._texts(one, item, words)
            for length, runs in evidence(rows, self.settings).items():
                found.setdefault(length, []).append(runs)
        joined = {n: np.unique(np.concatenate(parts)) for n, parts in sorted(found.items())}
        lengths = [np.full(len(runs), n, np.uint8) for n, runs in joined.items()]
        table = pa.record_batch(
            {
                "length": np.concatenate([np.zeros(0, np.uint8), *lengths]),
                "run": np.concatenate([np.zeros(0, np.uint64), *joined.values()]),
            }
        )
        with arrow_file.writing(final, table.schema) as writer:
            writer.write_batch(table)
        return table.num_rows

    def _texts(
        self, one: Selected, item: "WorkItem | None", words: "Vocabulary"
    ) -> Iterator[Sequence[str]]:
        """The texts of each row of a dataset."""
        if one.spec is not None:
            reader = content.reader(one.spec, self.settings.split, self.data_dir)
            for _, fields in reader.rows(self.settings.split, self.data_dir):
                yield reader.all_texts(fields)
        elif item is not None:
            from flanx.prep import seqio_tasks
            from flanx.prep.tally import Tally

            for example in seqio_tasks.examples(item, words, Tally(item.lengths)):
                yield (example.inputs_text or "", *example.targets_text)


def resolve(
    settings: Decontaminate, request: "StoreRequest", words: "Vocabulary", template: "WorkItem"
) -> Overlap:
    """Finds the evaluation tasks of a filter.

    Args:
      settings: the filter.
      request: imports and data folder.
      words: vocabulary of the request.
      template: any item of the request.

    Raises:
      UserError: a name matches nothing, no task of it has the split, or its data is missing.
    """
    chosen: dict[str, Selected] = {}
    notes: list[str] = []
    for name in settings.against:
        try:
            registry.load_for(name, request.imports)
            found = registry.resolve(
                name, split=settings.split, data_dir=request.data_dir, say=notes.append
            )
            everything = registry.resolve(name, split=None, data_dir=request.data_dir)
        except UserError as error:
            raise UserError(f"filter Decontaminate: against {error}") from None
        chosen.update((one.dataset, one) for one in reversed(found))
        without = sorted({one.dataset for one in everything} - {one.dataset for one in found})
        if without:
            more = f" and {len(without) - 3} more" if len(without) > 3 else ""
            notes.append(
                f"Decontaminate: no split '{settings.split}', so not compared with: "
                f"{', '.join(without[:3])}{more}"
            )
    selected = tuple(chosen[name] for name in sorted(chosen))
    files: list[str] = []
    parts: list[Any] = []
    items: list[WorkItem | None] = []
    for one in selected:
        if one.spec is not None:
            files += [*one.spec.modules, *_data_files(one, settings.split, request.data_dir)]
            parts.append(described(one.spec, settings.split, request.data_dir, None))
            items.append(None)
            continue
        from flanx.prep import seqio_tasks

        files += seqio_tasks.files(one.task, settings.split)
        parts.append([seqio_tasks.fingerprint(one.task, settings.split), words.fingerprint])
        whole = {"inputs": 1 << 24, "targets": 1 << 24}
        items.append(
            replace(
                template,
                task=one.task,
                split=settings.split,
                lengths=whole,
                max_examples=None,
                bare=True,
            )
        )
    canonical = json.dumps(
        [to_json(replace(settings, against=("",))), parts, engine_fingerprint(_MODULES)]
    )
    key = hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()
    return Overlap(
        settings,
        selected,
        request.data_dir,
        tuple(items),
        f"{FOLDER}/{key}.arrow",
        tuple(dict.fromkeys(files)),
        tuple(notes),
    )


def _data_files(one: Selected, split: str, data_dir: str | None) -> list[str]:
    assert one.spec is not None
    try:
        return one.spec.files(split, data_dir)
    except UserError as error:
        raise UserError(f"filter Decontaminate: evaluation task '{one.task}': {error}") from None


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
        found = _opened(Path(path))
        if found is None:
            raise UserError(f"{path} is damaged; remove it and run again")
        return cls(found)

    def meets(self, text: str) -> bool:
        """Whether any run of the index stands in the text."""
        every = ngrams.runs_of_lengths(ngrams.word_hashes(text), self._runs)
        for known, own in zip(self._runs.values(), every, strict=True):
            if len(own) and len(known):
                places = np.searchsorted(known, own)
                if (known.take(places, mode="clip") == own).any():
                    return True
        return False


def _opened(path: Path) -> dict[int, np.ndarray] | None:
    """Sorted runs by length; None where the file is not there or not whole."""
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    except (OSError, pa.ArrowException, ValueError):
        return None
    lengths, runs = batch.column("length").to_numpy(), batch.column("run").to_numpy()
    bounds = np.searchsorted(lengths, np.arange(257))
    return {n: runs[bounds[n] : bounds[n + 1]] for n in np.unique(lengths).tolist()}
