"""Rows of a Natural Instructions task: one JSON file with definition, examples and instances.

Source: allenai/natural-instructions v2 (Wang et al. 2022, arXiv 2204.07705), `tasks/<task>.json`.
"""

import functools
import heapq
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flanx.errors import UserError
from flanx.registry.draws import fraction
from flanx.registry.sources.file_hashes import file_hash
from flanx.registry.sources.json_rows import DuplicateKey, unique
from flanx.registry.sources.row_sources import Row, find

# In the key of every store made of Natural Instructions. Raise it when an unchanged file gives other rows, or gives a
# split other rows.
VERSION = 1
_READ = frozenset(
    (
        *("Definition", "Instances", "Positive Examples", "Negative Examples"),
        *("id", "input", "output", "explanation"),
    )
)
OFFICIAL_TEST_INSTANCES = 100  # of each test task, the first ones: the evaluation of the paper


class NaturalInstructions:
    """One task's instances as rows.

    A row has `id`, `input`, `output` (list of references, no two alike), `definition`, `positive_examples` (list of
    `{"input", "output"}`, with `explanation` where the file has one), `negative_examples` likewise, and `categories`.
    Texts are as in the file, white space included.

    Args:
      task: file name without `.json`, as in the official split lists.
      cap: most instances of `train`, a random choice fixed by their inputs; of `test`, the first so many. None: all of
        `train`, and the 100 that the official evaluation takes of `test`.
      test: the task is one of the official test split: its only split is `test`. Otherwise it has `train` and
        `validation`, and no input stands in both.
      validation: share of the instances held out for `validation`, by a hash of the input.
      folders: places under the data folder where the task files may lie, tried in order.
    """

    def __init__(
        self,
        task: str,
        cap: int | None = None,
        *,
        test: bool = False,
        validation: float = 0.05,
        folders: Sequence[str] = ("tasks", "natural-instructions/tasks"),
    ) -> None:
        if cap is not None and cap < 1:
            raise UserError(f"NaturalInstructions('{task}'): cap {cap} leaves no instance")
        if not test and not 0 < validation < 1:
            raise UserError(
                f"NaturalInstructions('{task}'): validation {validation} is not between 0 and 1"
            )
        self._task = task
        self._cap = cap
        self._test = test
        self._validation = validation
        self._folders = tuple(folders)

    @property
    def splits(self) -> tuple[str, ...]:
        return ("test",) if self._test else ("train", "validation")

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        return [find(f"{self._task}.json", self._folders, data_dir)]

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        (file,) = self.files(split, data_dir)
        content, shared = _load(file, os.stat(file).st_mtime_ns)
        instances = content["Instances"]
        for place in self._places(file, split):
            yield _row(file, place, instances[place], shared)

    def count(self, split: str, data_dir: str | None = None) -> int:
        (file,) = self.files(split, data_dir)
        return len(self._places(file, split))

    def fingerprint(self, split: str, data_dir: str | None = None) -> dict[str, Any]:
        (file,) = self.files(split, data_dir)
        chosen = {"cap": self._cap, "test": self._test, "validation": self._validation}
        return {
            "source": "NaturalInstructions",
            "version": VERSION,
            "sha256": [file_hash(file)],
            "split": split,
            **chosen,
        }

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        (file,) = self.files(split, data_dir)
        place = self._places(file, split)[index]
        return f"{file}: Instances[{place}]"

    def _places(self, file: str, split: str) -> list[int]:
        """Places in the file of the split's instances, in the file's order."""
        instances = _load(file, os.stat(file).st_mtime_ns)[0]["Instances"]
        if self._test:
            return list(range(min(len(instances), self._cap or OFFICIAL_TEST_INSTANCES)))
        inputs = [_text(file, place, one, "input").strip() for place, one in enumerate(instances)]
        held = [fraction(text, "held out") < self._validation for text in inputs]
        if split == "validation":
            return [place for place, out in enumerate(held) if out]
        places = [place for place, out in enumerate(held) if not out]
        if self._cap is None or len(places) <= self._cap:
            return places
        drawn = heapq.nsmallest(
            self._cap, places, key=lambda place: (fraction(inputs[place], "cap"), place)
        )
        return sorted(drawn)

    def __repr__(self) -> str:
        return f"NaturalInstructions({self._task!r}, cap={self._cap}, test={self._test})"


@functools.lru_cache(maxsize=2)
def _load(file: str, mtime_ns: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file's content, and the fields that all its rows share."""
    del mtime_ns  # a changed file is another entry
    try:
        with open(file, encoding="utf-8") as stream:
            # It takes the bare NaN that some files have.
            content = json.load(stream, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: not valid JSON ({error.msg})") from None
    except DuplicateKey as error:
        raise UserError(
            f"{file}: the key {error.args[0]!r} stands twice in one object, with different values; leave one out"
        ) from None
    except RecursionError:
        raise UserError(f"{file}: nested too deeply to be read") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 ({error})") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: a JSON {type(content).__name__} where an object is expected")
    for needed in ("Definition", "Instances"):
        if not content.get(needed):
            raise UserError(f"{file}: no '{needed}'; is it a Natural Instructions task file?")
    definition = content["Definition"]
    shared = {
        "definition": definition if isinstance(definition, str) else str(definition[0]),
        "positive_examples": _examples(content.get("Positive Examples")),
        "negative_examples": _examples(content.get("Negative Examples")),
        "categories": content.get("Categories") or [],
    }
    return content, shared


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys, those that are read, stand there once."""
    try:
        return unique(pairs)
    except DuplicateKey as error:
        if error.args[0] in _READ:
            raise
        return dict(pairs)


def _examples(given: Any) -> list[dict[str, str]]:
    examples = []
    for one in given or ():
        if not isinstance(one, Mapping) or not _is_text(one.get("input")):
            continue
        output = one.get("output")
        output = output[0] if isinstance(output, list) and output else output
        if not _is_text(output):
            continue
        example = {"input": str(one["input"]), "output": str(output)}
        if _is_text(one.get("explanation")):
            example["explanation"] = str(one["explanation"])
        examples.append(example)
    return examples


def _is_text(value: Any) -> bool:
    """A text or a number, and not the NaN that stands for nothing."""
    return isinstance(value, (str, int, float)) and value == value


def _row(file: str, place: int, instance: Any, shared: Mapping[str, Any]) -> Row:
    text = _text(file, place, instance, "input")
    output = instance.get("output")
    if output is None:
        raise UserError(f"{file}: Instances[{place}] has no 'output'")
    references = output if isinstance(output, list) else [output]
    return {
        "id": str(instance.get("id", place)),
        "input": text,
        "output": list(dict.fromkeys(str(one) for one in references if _is_text(one))),
        **shared,
    }


def _text(file: str, place: int, instance: Any, name: str) -> str:
    if not isinstance(instance, Mapping) or not _is_text(instance.get(name)):
        raise UserError(f"{file}: Instances[{place}] has no '{name}'")
    return str(instance[name])
