"""What is wrong with a task before a model is trained on it: `flanx tasks check`, and the tests of a task file."""

import itertools
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flanx.registry.exemplars import answer_names, identity, identity_names
from flanx.registry.leaks import lists_options, names_options
from flanx.registry.rendering import Dropped, Rendered, Renderer
from flanx.registry.spec import TaskSpec
from flanx.registry.template import EXEMPLARS, OPTIONS, Template

# Rows of a split that are compared with each other and with the train split.
MAX_ROWS = 200_000
# A template is drawn this many times on average before it counts as never used.
DRAWS_A_TEMPLATE = 16
# Few-shot examples are dropped by design where nothing fits beside the query.
_BY_DESIGN = frozenset({"no exemplar fits the inputs"})


@dataclass
class Problem:
    """One kind of fault of one task (or dataset) in one split.

    Attributes:
      task: task name, or the dataset's where the rows themselves are at fault.
      split: the split; "" where the templates are at fault.
      kind: what is wrong, in a few words.
      count: how many examples, rows or templates it is true of.
      example: the first of them.
    """

    task: str
    split: str
    kind: str
    count: int = 0
    example: str = ""

    def __str__(self) -> str:
        where = f" [{self.split}]" if self.split else ""
        return f"{self.task}{where}: {self.kind}: {self.count:,}, for instance {self.example}"


@dataclass
class _Found:
    """Problems by place and kind, each with its count and first example."""

    problems: dict[tuple[str, str, str], Problem] = field(default_factory=dict)

    def add(self, task: str, split: str, kind: str, example: Callable[[], str]) -> None:
        problem = self.problems.get((task, split, kind))
        if problem is None:
            problem = Problem(task, split, kind, 0, example())
            self.problems[task, split, kind] = problem
        problem.count += 1


def find(
    name: str,
    *,
    imports: Sequence[str] = (),
    data_dir: str | None = None,
    vocabulary: Any = None,
    feature_lengths: Mapping[str, int] | None = None,
    max_examples: int | None = 1000,
    seed: int = 0,
) -> list[Problem]:
    """Problems of every task that `name` (a task, dataset, mixture or glob) stands for.

    Args:
      imports: modules that register tasks of your own.
      data_dir: where relative data files are looked up; None for FLANX_DATA_DIR.
      vocabulary: anything with `encode(text)`; None for each task's own. Without either no target is measured.
      feature_lengths: most tokens of inputs and targets, EOS included.
      max_examples: examples rendered of each task and split, None for all.

    Raises:
      UserError: nothing has that name, or the data is missing or malformed.
    """
    from flanx.registry import load_for, specs_of

    load_for(name, imports)
    return check(
        specs_of(name),
        data_dir=data_dir,
        vocabulary=vocabulary,
        feature_lengths=feature_lengths,
        max_examples=max_examples,
        seed=seed,
    )


def check(
    specs: Iterable[TaskSpec],
    *,
    data_dir: str | None = None,
    vocabulary: Any = None,
    feature_lengths: Mapping[str, int] | None = None,
    max_examples: int | None = 1000,
    seed: int = 0,
) -> list[Problem]:
    """Problems of the given tasks; `find` says what the arguments are."""
    found = _Found()
    seen: set[str] = set()
    for spec in specs:
        if spec.dataset not in seen:
            seen.add(spec.dataset)
            _check_rows(spec, found, data_dir)
        _check_templates(spec, found)
        used: set[int] = set()
        drawn = 0
        words = tokeniser(spec, vocabulary, data_dir)
        for split in spec.splits:
            render = spec.renderer(
                split,
                feature_lengths=feature_lengths,
                vocabulary=words,
                seed=seed,
                data_dir=data_dir,
            )
            rows = itertools.islice(spec.source.rows(split, data_dir), max_examples)
            target_length = (feature_lengths or {}).get("targets")
            for index, row in enumerate(rows):
                example = render(index, row)
                if isinstance(example, Dropped):
                    if example.reason not in _BY_DESIGN:
                        where = partial(spec.source.where, split, index, data_dir)
                        found.add(spec.name, split, f"dropped: {example.reason}", where)
                    continue
                used.add(example.template)
                drawn += 1
                for kind, text in _faults(
                    spec, example, render.fields(index, row), words, target_length
                ):
                    found.add(spec.name, split, kind, partial(_short, text))
        if drawn >= DRAWS_A_TEMPLATE * len(spec.templates):
            for number in sorted(set(range(len(spec.templates))) - used):
                unused = f"{number}: {spec.templates[number]}"
                found.add(spec.name, "", "template never used", unused.__str__)
    return list(found.problems.values())


def tokeniser(spec: TaskSpec, given: Any, data_dir: str | None) -> Any:
    """What counts the tokens of a task's examples: `given`, else the task's own vocabulary, else None."""
    if given is not None or spec.vocabulary is None:
        return given
    from flanx.data import vocabulary

    return vocabulary.load(spec.vocabulary, data_dir)


def _faults(
    spec: TaskSpec,
    example: Rendered,
    fields: Mapping[str, Any],
    vocabulary: Any,
    target_length: int | None,
) -> Iterator[tuple[str, str]]:
    """(kind, text that shows it) of each fault of one example."""
    if not example.targets.strip():
        yield "empty target", example.inputs
    if vocabulary is not None and target_length is not None:
        tokens = len(vocabulary.encode(example.targets)) + 1
        if tokens > target_length:
            yield f"target longer than {target_length} tokens", example.targets
    options = fields.get("options")
    if not options or spec.type == "inv":
        return
    template = spec.templates[example.template]
    if spec.type.endswith("_noopt"):
        if names_options(_literal(template), options):
            yield "labels named by a no-option template", example.inputs
        elif lists_options(
            _query(template, fields) if spec.is_few_shot else example.inputs, options
        ):
            yield "options listed in a no-option input", example.inputs
    elif template.lists_options and not all(option.strip() in example.inputs for option in options):
        yield "options missing from the input", example.inputs


def _check_templates(spec: TaskSpec, found: _Found) -> None:
    for number, template in enumerate(spec.templates):
        if template.target_fields and template.target_fields <= template.input_fields:
            shown = f"{number}: {template}"
            found.add(spec.name, "", "template shows its target in the inputs", shown.__str__)


def _check_rows(spec: TaskSpec, found: _Found, data_dir: str | None) -> None:
    """Rows that occur twice in a split, and train rows that occur in another."""
    asked, answered = identity_names(spec.templates), answer_names(spec.templates)
    train: set[tuple[str, ...]] = set()
    for split in sorted(spec.splits, key=lambda name: name != "train"):
        render = spec.renderer(split, data_dir=data_dir)
        met: set[tuple[str, ...]] = set()
        for index, fields in _rows(spec, split, render, data_dir):
            where = partial(spec.source.where, split, index, data_dir)
            question = identity(fields, asked)
            whole = (*question, *identity(fields, answered))
            if whole in met:
                found.add(spec.dataset, split, "duplicate row", where)
            met.add(whole)
            if split == "train":
                train.add(question)
            elif question in train:
                found.add(spec.dataset, split, "train row", where)


def _rows(
    spec: TaskSpec, split: str, render: Renderer, data_dir: str | None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for index, row in enumerate(itertools.islice(spec.source.rows(split, data_dir), MAX_ROWS)):
        yield index, render.fields(index, row)


def _literal(template: Template) -> str:
    """What a template says itself, its fields left out."""
    return " ".join(text for text, _, _, _ in string.Formatter().parse(template.inputs) if text)


def _query(template: Template, fields: Mapping[str, Any]) -> str:
    """The inputs without exemplars, whose answers are options too."""
    texts = {
        name: value[0] if isinstance(value, list) and value else value
        for name, value in fields.items()
    }
    return template.inputs.format_map({**texts, OPTIONS: "", EXEMPLARS: ""})


def _short(text: str, length: int = 160) -> str:
    shown = repr(text)
    return shown if len(shown) <= length else f"{shown[: length // 2]} ... {shown[-length // 2 :]}"
