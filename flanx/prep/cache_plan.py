"""A request made concrete: which tasks, which vocabulary, which files, and one work item a task."""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx import registry, resources
from flanx.data import vocabulary
from flanx.data.request import StoreRequest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.prep.filtering import filter_keys, request_filters
from flanx.prep.filtering.overlap import Overlap
from flanx.prep.work_item import WorkItem

if TYPE_CHECKING:
    from flanx.registry import Selected


@dataclass(frozen=True)
class CachePlan:
    """What a request needs.

    Attributes:
      request: the request.
      vocabulary: tokeniser of all its tasks.
      selected: its tasks, as the registry resolved them.
      items: one a task, in the same order.
      code: code files of the user's that the result depends on; flanx's own parts have versions.
      data: data files of each task, by task name; a task whose files are missing has none here.
      notes: what the user should know of what was left out.
      overlaps: what the request's Decontaminate filters compare with.
    """

    request: StoreRequest
    vocabulary: Vocabulary
    selected: tuple["Selected", ...]
    items: tuple[WorkItem, ...]
    code: tuple[str, ...]
    data: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    overlaps: tuple[Overlap, ...] = ()

    @property
    def watched(self) -> tuple[str, ...]:
        """Folders in which a new file would make this plan another: those of data that is there in part."""
        files = (path for paths in self.data.values() for path in paths)
        return tuple(sorted({os.path.dirname(path) for path in files})) if self.notes else ()


def plan(request: StoreRequest, *, force: bool = False, verify: bool = False) -> CachePlan:
    """Resolves a request in the registry.

    Raises:
      UserError: no task matches, a module cannot be imported, there is no vocabulary, or two tasks have
        different ones.
    """
    registry.load_for(request.mixture, request.imports)
    notes: list[str] = []
    selected = tuple(
        registry.resolve(
            request.mixture,
            num_tasks=request.num_tasks,
            template_types=request.template_types,
            seed=request.seed,
            split=request.split,
            data_dir=request.data_dir,
            say=notes.append,
        )
    )
    if request.datasets_of is not None:
        kept = _datasets(request.mixture, request.datasets_of, request.seed, request.data_dir)
        selected = tuple(one for one in selected if one.dataset in kept)
        if not selected:
            raise UserError(
                f"'{request.mixture}': none of the {len(kept)} datasets trained on has the split '{request.split}'"
            )
    spec = _vocabulary_spec(request, selected)
    words = vocabulary.load(spec, request.data_dir)
    items = tuple(
        WorkItem(
            task=one.task,
            split=request.split,
            lengths=dict(request.feature_lengths),
            vocabulary=_whole_spec(spec, request.data_dir),
            cache_dir=str(Path(request.cache_dir).expanduser().absolute()),
            data_dir=_whole_folder(request.data_dir),
            seed=request.seed,
            max_examples=request.max_examples,
            for_eval=request.for_eval,
            mixture=request.mixture,
            imports=request.imports,
            bare=one.spec is None,
            force=force,
            verify=verify,
        )
        for one in selected
    )
    code = set(_registering_modules(request.imports))
    data = {}
    missing: list[UserError] = []
    for one in selected:
        if one.spec is not None:
            code.update(one.spec.modules)
        try:
            data[one.task] = _data_files(one, request)
        except UserError as error:  # the item will say so, by name, while the others go on
            missing.append(error)
    if len(missing) == len(selected):
        more = f" ({len(missing)} tasks without data, this the first)" if len(missing) > 1 else ""
        raise UserError(f"task '{selected[0].task}': {missing[0]}{more}")
    code.update(filter_keys.files(request.filters))
    items, overlaps = request_filters.with_filters(request, selected, items, words)
    for overlap in overlaps:
        code.update(overlap.files)
        notes += overlap.notes
    return CachePlan(
        request, words, selected, items, tuple(sorted(code)), data, tuple(notes), tuple(overlaps)
    )


def _datasets(
    mixture: str, selection: Mapping[str, Any], seed: int, data_dir: str | None
) -> frozenset[str]:
    """Datasets of another selection of a mixture: those trained on, for a suite that asks them."""
    chosen = registry.resolve(mixture, seed=seed, data_dir=data_dir, **selection)
    return frozenset(one.dataset for one in chosen)


def _data_files(one: "Selected", request: StoreRequest) -> tuple[str, ...]:
    if one.spec is not None:
        return tuple(one.spec.files(request.split, request.data_dir))
    from flanx.prep import seqio_tasks

    return tuple(seqio_tasks.files(one.task, request.split))


def _vocabulary_spec(request: StoreRequest, selected: Sequence["Selected"]) -> str:
    """The request's vocabulary, or the one that all tasks agree on; SeqIO tasks must agree with either."""
    own: dict[str, str] = {}  # spec -> the first task that has it
    for one in selected:
        if one.spec is None:
            from flanx.prep import seqio_tasks

            own.setdefault(seqio_tasks.vocabulary_spec(one.task), one.task)
        elif one.spec.vocabulary and request.vocabulary is None:
            own.setdefault(one.spec.vocabulary, one.task)
    if request.vocabulary is None and not own:
        raise UserError(
            f"'{request.mixture}' names no vocabulary of its own: set VOCABULARY to a SentencePiece model or "
            "a Hugging Face folder (--vocabulary, where there is no gin file)"
        )
    # The largest set of sentinels first: a vocabulary without any is part of one with some.
    loaded = {spec: vocabulary.load(spec, request.data_dir) for spec in own}
    chosen = request.vocabulary or max(own, key=lambda spec: loaded[spec].extra_ids)
    words = vocabulary.load(chosen, request.data_dir)
    for spec, task in own.items():
        if not vocabulary.includes(words, loaded[spec]):
            holder = f"task '{own[chosen]}'" if request.vocabulary is None else "VOCABULARY"
            raise UserError(
                f"vocabularies disagree: {holder} has '{chosen}' ({words.size} ids), but task '{task}' "
                f"has '{spec}' ({loaded[spec].size} ids); train them apart, or set VOCABULARY for tasks "
                "that flanx tokenises"
            )
    return chosen


def _whole_folder(data_dir: str | None) -> str | None:
    """The data folder as it is called in any working directory and any process."""
    folder = resources.data_dir(data_dir)
    if folder is None or "://" in folder:
        return folder
    return os.path.abspath(os.path.expanduser(folder))


def _whole_spec(spec: str, data_dir: str | None) -> str:
    """The vocabulary likewise; one that ships in a package, and bytes, are called the same everywhere."""
    name, question, query = spec.partition("?")
    if name == vocabulary.BYTES or "://" in name:
        return spec
    return f"{resources.resolve(name, data_dir)}{question}{query}"


def _registering_modules(imports: Sequence[str]) -> list[str]:
    """Files of the modules that may have registered something: task and mixture modules, and the user's."""
    names = [n for n in sys.modules if n.startswith(("flanx.tasks.", "flanx.mixtures."))]
    found = []
    for name in [*names, *imports]:
        module = sys.modules.get(name)
        file = getattr(module, "__file__", None)
        if file is None and (spec := importlib.util.find_spec(name)) is not None:
            file = spec.origin
        if file and Path(file).is_file():
            found.append(str(Path(file).absolute()))
    return found


def vocabulary_files(plan: CachePlan) -> list[str]:
    """The files on this machine that the vocabulary was read from."""
    return [resources.resolve(file) for file in plan.vocabulary.files if "://" not in file]
