"""A user's module of tasks over JSONL files, importable by this process and by workers."""

import itertools
import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flanx import registry
from flanx.data.request import StoreRequest

_NUMBERS = itertools.count()

_MODULE = '''
"""Tasks of a test."""

import flanx

{head}


def fields(row):
    {body}
    return {{"word": row["word"], "answer": row["answer"]}}


for _name in {tasks!r}:
    flanx.register(
        "{collection}." + _name,
        source=flanx.Jsonl(train=_name + ".train.jsonl", validation=_name + ".val.jsonl"),
        fields=fields,
        templates=[flanx.Template("Turn {{word}} round.", "{{answer}}"),
                   flanx.Template("{{word}} backwards?", "{{answer}}")],
        template_types=("zs_noopt",),
        vocabulary={vocabulary!r},
    )
'''


class Collection:
    """Datasets `one`, `two`, ... of reversed words under `folder`, registered by module `name`."""

    def __init__(self, folder: Path, vocabulary: str | None):
        self.folder = folder
        self.name = f"collection{next(_NUMBERS)}"
        self.vocabulary = vocabulary
        self.tasks: list[str] = []

    @property
    def module(self) -> Path:
        return self.folder / f"{self.name}.py"

    @property
    def cache_dir(self) -> Path:
        return self.folder / "cache"

    def data(self, task: str, split: str = "train") -> Path:
        return self.folder / "data" / f"{task}.{split}.jsonl"

    def write_rows(self, task: str, rows: list[dict[str, Any]], split: str = "train") -> None:
        self.data(task, split).parent.mkdir(exist_ok=True)
        self.data(task, split).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def write_module(self, head: str = "", body: str = "") -> None:
        self.module.write_text(
            textwrap.dedent(_MODULE).format(
                head=head,
                body=body or "pass",
                tasks=self.tasks,
                collection=self.name,
                vocabulary=self.vocabulary,
            )
        )

    def request(self, **changes: Any) -> StoreRequest:
        settings = {
            "mixture": f"{self.name}.*",
            "feature_lengths": {"inputs": 40, "targets": 16},
            "cache_dir": str(self.cache_dir),
            "data_dir": str(self.folder / "data"),
            "imports": (self.name,),
        }
        return StoreRequest(**{**settings, **changes})

    @staticmethod
    def words(count: int, start: int = 0) -> list[dict[str, Any]]:
        names = [f"word{number}" for number in range(start, start + count)]
        return [{"word": name, "answer": name[::-1]} for name in names]

    def stores(self) -> list[str]:
        """Every store folder and temporary folder there is."""
        found = self.cache_dir.glob(f"{self.name}*/*")
        return sorted(str(path.relative_to(self.cache_dir)) for path in found)


@pytest.fixture
def collection(tmp_path, monkeypatch) -> Iterator[Callable[..., Collection]]:
    """Makes a collection of datasets with the given numbers of training rows."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[Collection] = []

    def make(vocabulary: str | None = "bytes", **sizes: int) -> Collection:
        one = Collection(tmp_path, vocabulary)
        one.tasks = list(sizes)
        for task, size in sizes.items():
            one.write_rows(task, one.words(size))
            one.write_rows(task, one.words(3, start=1000), "val")
        one.write_module()
        made.append(one)
        return one

    with registry.isolated():
        yield make
    for one in made:
        sys.modules.pop(one.name, None)
