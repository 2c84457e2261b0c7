"""Tasks that other code registered with SeqIO, in the form in which flanx's tools look at its own.

SeqIO is never imported here: it is asked where somebody has imported it already.
"""

import fnmatch
import re
import sys
from collections.abc import Iterator
from typing import Any

from flanx.registry.rendering.template import Template
from flanx.registry.sources import Row
from flanx.registry.sources.seqio_rows import SeqioRows
from flanx.registry.spec import TaskSpec

_TEMPLATE = Template("{inputs}", "{targets}")


def names(pattern: str) -> list[str]:
    """Tasks of others, in the order of their registration, that a name or glob stands for."""
    registry = _registry("TaskRegistry")
    if registry is None:
        return []
    matches = re.compile(fnmatch.translate(pattern)).match
    return [name for name in registry.names() if matches(name) and _of_others(registry.get(name))]


def known(name: str) -> bool:
    """Whether somebody else registered exactly this name with SeqIO, as a task or a mixture."""
    registries = (_registry("TaskRegistry"), _registry("MixtureRegistry"))
    return any(
        registry is not None and name in registry.names() and _of_others(registry.get(name))
        for registry in registries
    )


def _registry(kind: str) -> Any:
    return getattr(sys.modules.get("seqio"), kind, None)


def _of_others(provider: Any) -> bool:
    """Tasks of flanx's own have a source of flanx's, mixtures a class of flanx's."""
    made_by = type(getattr(provider, "source", provider)).__module__
    return not made_by.startswith("flanx.")


def readable(task: Any) -> tuple[Any, bool]:
    """A SeqIO task as it can be read here, and whether that is from SeqIO's own cache.

    `CacheDatasetPlaceholder(required=True)` forbids rendering while one trains. flanx renders once, ahead, as well:
    without a cache of SeqIO's, the task is rendered as SeqIO would to make one.
    """
    if not getattr(task, "requires_caching", False):
        return task, False
    if task.cache_dir:
        return task, True
    placeholder = sys.modules["seqio"].CacheDatasetPlaceholder
    steps = [
        placeholder() if isinstance(step, placeholder) else step for step in task.preprocessors
    ]
    return task.replace(preprocessors=steps), False


def view(name: str) -> TaskSpec:
    """The finished examples of a SeqIO task as a task with one template, to list, show and check.

    What is trained on is made by SeqIO itself (`flanx.prep.seqio_tasks`).
    """
    return TaskSpec(
        name=name,
        dataset=name,
        type="",
        source=_Finished(name, sys.modules["seqio"].TaskRegistry.get(name)),
        fields=dict,
        to_fields=dict,
        templates=(_TEMPLATE,),
    )


class _FromCache:
    """A SeqIO task whose dataset is that of SeqIO's own cache."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def get_dataset(self, **settings: Any) -> Any:
        return self._task.get_dataset(use_cached=True, **settings)


class _Finished(SeqioRows):
    """Rows of texts: what a SeqIO task makes of its source's rows."""

    def __init__(self, name: str, task: Any) -> None:
        super().__init__(task)
        self._name = name
        self._vocabularies = {
            feature: settings.vocabulary for feature, settings in task.output_features.items()
        }

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        task, cached = readable(self._source)
        source = _FromCache(task) if cached else task
        for row in SeqioRows(source).rows(split, data_dir):
            yield {feature: self._text(row, feature) for feature in ("inputs", "targets")}

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        return f"SeqIO task '{self._name}' {split} row {index}"

    def _text(self, row: Row, feature: str) -> str:
        text = row.get(f"{feature}_pretokenized")
        if isinstance(text, str):
            return text
        if feature not in self._vocabularies:
            return ""
        return self._vocabularies[feature].decode(row[feature])
