"""The evaluation datasets that a Decontaminate filter names: what reads them, and where their index is."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flanx import registry
from flanx.data.filters import Decontaminate, to_json
from flanx.errors import UserError
from flanx.prep.filtering import content, ngrams, overlap_index
from flanx.prep.filtering.filter_keys import described
from flanx.registry import Selected

if TYPE_CHECKING:
    from flanx.data.request import StoreRequest
    from flanx.data.vocabulary import Vocabulary
    from flanx.prep.work_item import WorkItem

FOLDER = "overlaps"


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
        if not force and (there := overlap_index.opened(final)) is not None:
            return sum(map(len, there.values()))
        found: dict[int, list[np.ndarray]] = {}
        for one, item in zip(self.selected, self.items, strict=True):
            rows = self._texts(one, item, words)
            for length, runs in overlap_index.evidence(rows, self.settings).items():
                found.setdefault(length, []).append(runs)
        return overlap_index.write(final, found)

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
            from flanx.prep.render_stats import RenderStats

            for example in seqio_tasks.examples(item, words, RenderStats(item.lengths)):
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
    versions = [overlap_index.VERSION, content.VERSION, ngrams.VERSION]
    canonical = json.dumps([to_json(replace(settings, against=("",))), parts, versions])
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
