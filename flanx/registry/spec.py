"""One task: a dataset in one template type. Immutable; everything that a reader of the registry can ask."""

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flanx.errors import UserError
from flanx.registry import draws
from flanx.registry.rendering import renderer
from flanx.registry.rendering.few_shot import FewShot
from flanx.registry.rendering.renderer import Dropped, Rendered, Renderer, few_shot
from flanx.registry.rendering.template import Template
from flanx.registry.sources import Row, RowSource
from flanx.user_code.code_hash import code_files, code_hash
from flanx.user_code.error_lines import in_words

TYPES = ("zs_opt", "zs_noopt", "fs_opt", "fs_noopt", "inv")


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """A task.

    Attributes:
      name: `collection.dataset.type`.
      dataset: `collection.dataset`.
      type: one of TYPES.
      category: what kind of task it is, or None.
      metrics: `"module:name"` of each metric.
      postprocessor: `"module:name"`, or None.
      vocabulary: spec of the task's own vocabulary, or None for the reader's.
      source: where the rows come from.
      fields: as registered: a function of the row, or a mapping.
      to_fields: the same, as a function.
      templates: the type's templates.
      few_shot: how exemplars are chosen and shown.
      place: `file:line` of its registration.
    """

    name: str
    dataset: str
    type: str
    source: RowSource
    fields: Any
    to_fields: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    templates: tuple[Template, ...]
    category: str | None = None
    metrics: tuple[str, ...] = ()
    postprocessor: str | None = None
    vocabulary: str | None = None
    few_shot: FewShot = field(default_factory=FewShot)
    place: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.source.splits)

    @property
    def is_few_shot(self) -> bool:
        return self.type.startswith("fs_")

    @property
    def shows_options(self) -> bool:
        return self.type.endswith("_opt")

    @property
    def modules(self) -> tuple[str, ...]:
        """Source files of the code that the task's examples depend on, sorted."""
        found = set(code_files(self.fields))
        source_code = getattr(self.source, "code_files", None)
        if source_code is not None:
            found.update(source_code())
        found.add(self.place.rpartition(":")[0])
        return tuple(sorted(name for name in found if name and not name.startswith("<")))

    def renderer(self, split: str, **settings: Any) -> Renderer:
        """Renders single rows of a split; the settings are those of `render`."""
        self._check_split(split)
        return Renderer(self, split, **settings)

    def render(
        self,
        split: str,
        *,
        feature_lengths: Mapping[str, int] | None = None,
        vocabulary: Any = None,
        seed: int = 0,
        data_dir: str | None = None,
        max_examples: int | None = None,
    ) -> Iterator[Rendered | Dropped]:
        """The split's examples in order, one a row; a row that makes none is `Dropped` with its reason.

        Args:
          split: one of `splits`.
          feature_lengths: most tokens of `inputs`, for the number of exemplars; None for no limit.
          vocabulary: anything with `encode(text)`; None for no limit on exemplars.
          seed: all draws depend on (seed, task name, row) alone.
          data_dir: where relative files are looked up; None for FLANX_DATA_DIR.
          max_examples: read only so many rows.

        Raises:
          UserError: a file is missing, or a row is malformed or lacks a field (the message names file:line).
        """
        render = self.renderer(
            split,
            feature_lengths=feature_lengths,
            vocabulary=vocabulary,
            seed=seed,
            data_dir=data_dir,
        )
        rows = itertools.islice(self.rows(split, data_dir), max_examples)
        for index, row in enumerate(rows):
            yield render(index, row)

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        """The split's rows in order, as the source gives them.

        Raises:
          UserError: the source cannot be read; of a user's own source, with the line of its code that raised.
        """
        self._check_split(split)
        read = 0
        try:
            for row in self.source.rows(split, data_dir):
                read += 1
                yield row
        except (UserError, OSError):
            raise
        except Exception as error:
            raise UserError(
                f"task '{self.dataset}': {self.source!r} fails after {read:,} rows of {split} ({in_words(error)})"
            ) from error

    def count(self, split: str, data_dir: str | None = None) -> int:
        """Rows of the split, before any is dropped."""
        self._check_split(split)
        return self.source.count(split, data_dir)

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        """Absolute paths of the data files that the split's examples depend on."""
        self._check_split(split)
        found = list(self.source.files(split, data_dir))
        if self._draws_from_train and split != "train":
            found += [file for file in self.source.files("train", data_dir) if file not in found]
        return found

    def fingerprint(
        self,
        split: str,
        *,
        feature_lengths: Mapping[str, int] | None = None,
        seed: int = 0,
        data_dir: str | None = None,
        max_examples: int | None = None,
        vocabulary: Any = None,
    ) -> dict[str, Any]:
        """JSON-able description of all that decides `render`'s examples, but for the vocabulary.

        Two tasks of one fingerprint render the same texts; `feature_lengths` counts for few-shot types alone.
        """
        del vocabulary
        self._check_split(split)
        described: dict[str, Any] = {
            "task": self.name,
            "templates": [
                [template.inputs, template.targets, *template.exemplars]
                for template in self.templates
            ],
            "fields": code_hash(self.fields),
            "source": self.source.fingerprint(split, data_dir),
            "split": split,
            "seed": seed,
            "max_examples": max_examples,
            "versions": {"draws": draws.VERSION, "rendering": renderer.VERSION},
        }
        if self.is_few_shot:
            described["versions"]["few_shot"] = few_shot.VERSION
            described["few_shot"] = code_hash(self.few_shot)
            described["inputs_length"] = (feature_lengths or {}).get("inputs")
            if self._draws_from_train:
                described["exemplars"] = self.source.fingerprint("train", data_dir)
        return described

    @property
    def _draws_from_train(self) -> bool:
        return self.is_few_shot and not self.few_shot.from_row

    def _check_split(self, split: str) -> None:
        if split not in self.splits:
            raise UserError(
                f"task '{self.name}' has no split '{split}' (it has {', '.join(self.splits)})"
            )

    def __repr__(self) -> str:
        return f"TaskSpec({self.name})"


def caller(depth: int = 2) -> str:
    """`file:line` of the code `depth` calls up."""
    frame = sys._getframe(depth)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
