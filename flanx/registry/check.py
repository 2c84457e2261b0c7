"""What is wrong with a task before a model is trained on it: `flanx tasks check`, and the tests of a task file."""

import hashlib
import itertools
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from flanx.data.vocabulary.coverage import Unwritable, coverage
from flanx.errors import UserError
from flanx.registry.leaks import lists_options, names_options
from flanx.registry.rendering.exemplars import answer_names, identity, identity_names
from flanx.registry.rendering.renderer import Dropped, Rendered
from flanx.registry.rendering.template import EXEMPLARS, OPTIONS, Template
from flanx.registry.rendering.values import Drop
from flanx.registry.row_errors import RowError
from flanx.registry.sources import Row
from flanx.registry.spec import TaskSpec

# Rows of a split that are compared with each other and with the train split.
MAX_ROWS = 200_000
# A template is drawn this many times on average before it counts as never used.
DRAWS_A_TEMPLATE = 16
_SHOWN_CHARACTERS = 8
_SHOWN_TARGET = 60
_TEXTS_TOGETHER = 512
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
      vocabulary: anything with `encode(text)`, and `unk_id` if it has one; None for each task's own. Without either no
        target is measured.
      feature_lengths: most tokens of inputs and targets, EOS included.
      max_examples: examples rendered of each task and split, None for all.

    Raises:
      UserError: nothing has that name, or a vocabulary cannot be read. What is wrong with the data is a problem found.
    """
    from flanx.registry.loading import load_for
    from flanx.registry.mixtures.selection import specs_of

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
    unwritable: dict[str, Unwritable] | None = None,
) -> list[Problem]:
    """Problems of the given tasks; `find` says what the arguments are.

    Args:
      unwritable: filled, for each task that is measured with a vocabulary, with the characters of its examples that
        this cannot write. They are no problem by themselves: T5's writes no line break, and instructions have many.
    """
    found = _Found()
    seen: set[str] = set()
    for spec in specs:
        if spec.dataset not in seen:
            seen.add(spec.dataset)
            _check_rows(spec, found, data_dir)
        _check_templates(spec, found)
        task = _Task(
            spec,
            tokeniser(spec, vocabulary, data_dir),
            dict(feature_lengths or {}),
            seed,
            data_dir,
        )
        used: set[int] = set()
        drawn = 0
        counts = _Characters(task.vocabulary if unwritable is not None else None)
        for split in spec.splits:
            for example in _examples(task, split, max_examples, found):
                used.add(example.template)
                drawn += 1
                counts.add(example)
        if unwritable is not None and counts.measured:
            unwritable[spec.name] = counts.summary()
        if drawn >= DRAWS_A_TEMPLATE * len(spec.templates):
            for number in sorted(set(range(len(spec.templates))) - used):
                unused = f"{number}: {spec.templates[number]}"
                found.add(spec.name, "", "template never used", unused.__str__)
    return list(found.problems.values())


class _Characters:
    """Counts the characters of examples that a vocabulary cannot write, many texts at once."""

    def __init__(self, vocabulary: Any):
        # A tokeniser of the user's may do no more than encode.
        self.measured = hasattr(vocabulary, "fingerprint")
        self._coverage = coverage(vocabulary) if self.measured else None
        self._texts: list[str] = []
        self._counts: Counter[str] = Counter()

    def add(self, example: Rendered) -> None:
        if self._coverage is None:
            return
        self._texts += (example.inputs, example.targets)
        if len(self._texts) >= _TEXTS_TOGETHER:
            self._count()

    def summary(self) -> Unwritable:
        self._count()
        return Unwritable.of(self._counts)

    def _count(self) -> None:
        if self._coverage is not None:
            self._counts.update(self._coverage.lost(self._texts))
        self._texts.clear()


@dataclass(frozen=True)
class _Task:
    """A task with what its examples are made and measured with."""

    spec: TaskSpec
    vocabulary: Any
    lengths: Mapping[str, int]
    seed: int
    data_dir: str | None


def _examples(
    task: _Task, split: str, max_examples: int | None, found: _Found
) -> Iterator[Rendered]:
    """The split's examples, after their faults and those of rows that make none are noted."""
    spec = task.spec
    render = spec.renderer(
        split,
        feature_lengths=task.lengths,
        vocabulary=task.vocabulary,
        seed=task.seed,
        data_dir=task.data_dir,
    )
    last: RowError | None = None
    for index, row in enumerate(_readable(spec, split, max_examples, task.data_dir)):
        where = partial(spec.source.where, split, index, task.data_dir)
        try:
            fields = render.fields(index, row)
        except (Drop, RowError) as error:
            if (
                isinstance(error, Drop) or index >= MAX_ROWS
            ):  # else a fault of the dataset, noted there
                found.add(spec.name, split, f"dropped: {error}", where)
            continue
        try:
            example = render(index, row)
        except RowError as error:
            if error is not last:  # an exemplar's is met again with every row
                found.add(spec.name, split, error.kind, error.__str__)
            last = error
            continue
        except UserError as error:  # of the task as a whole: the rest fails alike
            found.add(spec.name, split, "cannot be rendered", error.__str__)
            return
        if isinstance(example, Dropped):
            if example.reason not in _BY_DESIGN:
                found.add(spec.name, split, f"dropped: {example.reason}", where)
            continue
        yield example
        for kind, text in _faults(task, example, fields):
            found.add(spec.name, split, kind, partial(_short, text))


def _readable(
    spec: TaskSpec, split: str, most: int | None, data_dir: str | None, found: _Found | None = None
) -> Iterator[Row]:
    """The split's rows as far as they can be read; what ends them is noted in `found`, if given."""
    try:
        yield from itertools.islice(spec.rows(split, data_dir), most)
    except UserError as error:
        if found is not None:
            found.add(spec.dataset, split, "cannot be read", error.__str__)


def tokeniser(spec: TaskSpec, given: Any, data_dir: str | None) -> Any:
    """What counts the tokens of a task's examples: `given`, else the task's own vocabulary, else None."""
    if given is not None or spec.vocabulary is None:
        return given
    from flanx.data import vocabulary

    return vocabulary.load(spec.vocabulary, data_dir)


def _faults(task: _Task, example: Rendered, fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, text that shows it) of each fault of one example."""
    spec = task.spec
    if not example.targets.strip():
        yield "empty target", example.inputs
    if task.vocabulary is not None:
        yield from _target_tokens(task, example.targets)
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


def _target_tokens(task: _Task, target: str) -> Iterator[tuple[str, str]]:
    """What is wrong with a target's tokens: too many, or some that stand for no piece of the vocabulary."""
    words, most = task.vocabulary, task.lengths.get("targets")
    ids = words.encode(target)
    if most is not None and len(ids) + 1 > most:
        yield f"target longer than {most} tokens", target
    if (unknown := getattr(words, "unk_id", None)) in ids:
        characters = [one for one in dict.fromkeys(target) if unknown in words.encode(one)]
        shown = " ".join(map(repr, characters[:_SHOWN_CHARACTERS])) or "pieces"
        yield (
            "target with pieces unknown to the vocabulary, which the model can neither read nor write",
            f"{shown} in {target[:_SHOWN_TARGET]}",
        )


def _check_templates(spec: TaskSpec, found: _Found) -> None:
    for number, template in enumerate(spec.templates):
        if template.target_fields and template.target_fields <= template.input_fields:
            shown = f"{number}: {template}"
            found.add(spec.name, "", "template shows its target in the inputs", shown.__str__)


def _check_rows(spec: TaskSpec, found: _Found, data_dir: str | None) -> None:
    """Rows that occur twice in a split, and train rows that occur in another."""
    asked, answered = identity_names(spec.templates), answer_names(spec.templates)
    train: set[bytes] = set()
    for split in sorted(spec.splits, key=lambda name: name != "train"):
        render = spec.renderer(split, data_dir=data_dir)
        met: set[bytes] = set()
        for index, row in enumerate(_readable(spec, split, MAX_ROWS, data_dir, found)):
            where = partial(spec.source.where, split, index, data_dir)
            try:
                fields = render.fields(index, row)
            except Drop:
                continue
            except RowError as error:
                found.add(spec.dataset, split, error.kind, error.__str__)
                continue
            question = _digest(identity(fields, asked))
            whole = _digest((question.hex(), *identity(fields, answered)))
            if whole in met:
                found.add(spec.dataset, split, "duplicate row", where)
            met.add(whole)
            if split == "train":
                train.add(question)
            elif question in train:
                found.add(spec.dataset, split, "train row", where)


def _digest(texts: Iterable[str]) -> bytes:
    """Stands for the texts where they are compared: of 200,000 rows the texts themselves may be large."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass"))
        digest.update(b"\x1f")
    return digest.digest()


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
    if len(text) <= length:
        return repr(text)
    half = length // 2
    return f"{repr(text[:half])[:half]} ... {repr(text[-half:])[-half:]}"
