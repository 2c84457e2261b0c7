"""What a row says, whatever template renders it: the texts of its own fields, apart by what asks and what answers.

Templated data repeat themselves by design: a template's words stand in thousands of examples, a dataset's instruction
in all of its rows, and one row in several template types. None of it makes a duplicate or an overlap. So filters look
at the fields that the dataset's templates name, and leave out those that ask the same in every row of the split.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flanx.registry import table
from flanx.registry.rendering.exemplars import answer_names, identity_names
from flanx.registry.rendering.values import Drop
from flanx.registry.spec import TaskSpec

# In the key of every sketch and overlap index, and of stores with filters. Raise it when other texts of the same
# row count as what it asks or answers.
VERSION = 1
_FEWEST_ROWS = 2  # a single row does not tell what is the dataset's instruction


@dataclass(frozen=True)
class Content:
    """A row's own texts.

    Attributes:
      inputs: what is asked, one text a field; alternatives of a list field are texts of their own.
      targets: what is answered, likewise.
      instruction: what is asked alike in every row of the split.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    instruction: tuple[str, ...] = ()


class Names(NamedTuple):
    """What a dataset's templates, those of all its types, make of its fields.

    Attributes:
      asked: fields that the inputs show and the targets do not.
      answered: fields of the targets.
      lists_options: templates show the row's options.
    """

    asked: tuple[str, ...]
    answered: tuple[str, ...]
    lists_options: bool


@dataclass(frozen=True)
class Reader:
    """Which fields of a dataset's rows make their content.

    Attributes:
      spec: any task of the dataset.
      asked: fields that the inputs show, those that are the same in all rows left out.
      constant: those that are.
      answered: fields of the targets.
      lists_options: templates show the row's options.
    """

    spec: TaskSpec
    asked: tuple[str, ...]
    constant: tuple[str, ...]
    answered: tuple[str, ...]
    lists_options: bool

    def content(self, fields: Mapping[str, Any]) -> Content:
        """Empty texts are left out."""
        asked, constant = _texts(fields, self.asked), _texts(fields, self.constant)
        return Content(asked, _texts(fields, self.answered), constant)

    def all_texts(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        """Every text of the row but the instruction, options included."""
        options = _texts(fields, ("options",)) if self.lists_options else ()
        return (*_texts(fields, self.asked), *_texts(fields, self.answered), *options)

    def rows(
        self, split: str, data_dir: str | None, max_examples: int | None = None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """(place, fields) of the split's rows."""
        return _rows(self.spec, split, data_dir, max_examples)


def reader(
    spec: TaskSpec, split: str, data_dir: str | None, max_examples: int | None = None
) -> Reader:
    """The reader of a task's dataset, the same whichever of its template types `spec` is.

    Reads the split as far as it takes to see that no asking field is the same in all rows.
    """
    asked, answered, lists_options = names(spec)
    constant = _constant(spec, asked, split, data_dir, max_examples)
    if len(constant) == len(asked):  # every row asks the same: then that is what it asks
        constant = frozenset()
    return Reader(
        spec,
        tuple(name for name in asked if name not in constant),
        tuple(name for name in asked if name in constant),
        answered,
        lists_options,
    )


def names(spec: TaskSpec) -> Names:
    """The names of a task's dataset, the same whichever of its template types `spec` is."""
    templates = [
        template
        for one in table.datasets().get(spec.dataset, (spec,))
        if one.type != "inv"
        for template in one.templates
    ] or list(spec.templates)
    lists_options = any(template.lists_options for template in templates)
    return Names(identity_names(templates), answer_names(templates), lists_options)


def even(text: str) -> str:
    """White space evened out."""
    return " ".join(text.split())


def _constant(
    spec: TaskSpec,
    asked: tuple[str, ...],
    split: str,
    data_dir: str | None,
    max_examples: int | None,
) -> frozenset[str]:
    """Asking fields that are the same in every row, where there are several fields and enough rows to say so."""
    if len(asked) < 2:
        return frozenset()
    first: dict[str, Any] | None = None
    same = set(asked)
    count = 0
    for _, fields in _rows(spec, split, data_dir, max_examples):
        if first is None:
            first = fields
        same = {name for name in same if fields.get(name) == first.get(name)}
        count += 1
        if not same:
            break
    return frozenset(same) if count >= _FEWEST_ROWS else frozenset()


def _rows(
    spec: TaskSpec, split: str, data_dir: str | None, max_examples: int | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    to_fields = spec.renderer(split, data_dir=data_dir).fields
    rows = itertools.islice(spec.rows(split, data_dir), max_examples)
    for index, row in enumerate(rows):
        with contextlib.suppress(Drop):  # a row that `fields` leaves out
            yield index, to_fields(index, row)


def _texts(fields: Mapping[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    found = []
    for name in names:
        value = fields.get(name)
        for one in value if isinstance(value, list) else (value,):
            if isinstance(one, str) and one.strip():
                found.append(one)
    return tuple(found)
