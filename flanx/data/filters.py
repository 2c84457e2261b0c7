"""Which rows a request leaves out: the filters' settings. `flanx.prep.filtering` does the work, while it caches.

A filter is written as a call, the same on the command line, in a gin file and in JSON requests:

    flanx cache --mixture niv2.train --filter 'ExactDuplicates()' --filter 'NearDuplicates(threshold=0.7)'
    FILTERS = ("ExactDuplicates()", "Decontaminate(against=('mgsm.*',), split='test')")

Duplicates are looked for in a whole mixture, after its tasks are cached; all other filters see one example at a time.
Every filter counts what it drops under a name that begins with "filter:".
"""

import ast
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flanx import field_types
from flanx.errors import UserError, did_you_mean

PREFIX = "filter:"


@dataclass(frozen=True)
class ExactDuplicates:
    """Drops rows whose fields are those of an earlier row, white space aside; all renderings of a row go with it.

    Attributes:
      between_tasks: look between datasets as well; False for inside each alone.
    """

    between_tasks: bool = True

    def __post_init__(self) -> None:
        field_types.check(self)


@dataclass(frozen=True)
class NearDuplicates:
    """Drops rows whose inputs and whose targets are both nearly those of an earlier row that stays, instructions aside.

    Pairs are found by MinHash and locality-sensitive hashing (Broder 1997; datasketch), then compared exactly, so no
    pair below the threshold goes, and at least 99 % of the pairs at the threshold are found. Answers of at most 5 words
    have to be the same: "The film was good: positive" and "The film was bad: negative" both stay.

    Attributes:
      threshold: least Jaccard similarity of the sets of word n-grams, in (0, 1].
      words: n of the n-grams; a text of fewer words is one n-gram.
      shortest: rows of fewer words, inputs and targets together, are never near duplicates: one word is much of them.
      permutations: length of a MinHash signature.
      between_tasks: look between datasets as well; False for inside each alone.
    """

    threshold: float = 0.8
    words: int = 2
    shortest: int = 10
    permutations: int = 128
    between_tasks: bool = True

    def __post_init__(self) -> None:
        field_types.check(self)
        _need(0 < self.threshold <= 1, self, "threshold", "a number above 0 and at most 1")
        _need(self.words >= 1, self, "words", "1 or more")
        _need(self.shortest >= 0, self, "shortest", "0 or more")
        _need(16 <= self.permutations <= 4096, self, "permutations", "16 to 4096")


@dataclass(frozen=True)
class Decontaminate:
    """Drops examples that share a run of words with an evaluation example's own fields (Brown et al. 2020, app. C).

    Attributes:
      against: evaluation tasks: names or globs of mixtures, datasets or tasks.
      split: their split.
      words: length of the run. A field of fewer words counts whole.
      shortest: fields of fewer words than this are no evidence ("yes", "Paris").
      common: a run in more than this share of an evaluation dataset's rows (and in more than 10) is its wording, and no
        evidence.
    """

    against: tuple[str, ...]
    split: str = "test"
    words: int = 13
    shortest: int = 8
    common: float = 0.1

    def __post_init__(self) -> None:
        _as_tuple(self, "against")
        field_types.check(self)
        _need(bool(self.against), self, "against", "at least one mixture, task or glob")
        _need(1 <= self.words <= 255, self, "words", "1 to 255")
        _need(1 <= self.shortest <= self.words, self, "shortest", f"1 to words={self.words}")
        _need(0 < self.common <= 1, self, "common", "a number above 0 and at most 1")


@dataclass(frozen=True)
class Length:
    """Drops examples whose inputs or targets, as rendered, are too short or too long.

    Attributes:
      of: "inputs" or "targets".
      unit: "tokens" (before cutting, EOS not counted), "words" or "characters".
      min: the least that stays.
      max: the most that stays; None for no limit.
    """

    of: Literal["inputs", "targets"]
    unit: Literal["tokens", "words", "characters"] = "tokens"
    min: int = 0
    max: int | None = None

    def __post_init__(self) -> None:
        field_types.check(self)
        _need_word(self, "of", ("inputs", "targets"))
        _need_word(self, "unit", ("tokens", "words", "characters"))
        _need(self.min >= 0, self, "min", "0 or more")
        if self.max is not None:
            _need(self.max >= self.min, self, "max", f"at least min={self.min}")
        if self.min == 0 and self.max is None:
            raise UserError("filter Length has no limit; give min=N, max=N or both")


@dataclass(frozen=True)
class Language:
    """Drops rows that are in other languages: told of the row's own fields, inputs and targets apart (py3langid).

    Attributes:
      keep: ISO 639-1 codes of the languages that stay.
      probability: how sure of another language one has to be to drop a row.
      shortest: texts of fewer letters are too short to tell, and stay.
      of: what is looked at: "inputs", "targets", or both.
    """

    keep: tuple[str, ...] = ("en",)
    probability: float = 0.9
    shortest: int = 40
    of: tuple[str, ...] = ("inputs", "targets")

    def __post_init__(self) -> None:
        _as_tuple(self, "keep")
        _as_tuple(self, "of")
        field_types.check(self)
        _need(bool(self.keep), self, "keep", "at least one language code")
        _need(0 < self.probability <= 1, self, "probability", "a number above 0 and at most 1")
        _need(self.shortest >= 1, self, "shortest", "1 or more")
        _need(bool(self.of), self, "of", "'inputs', 'targets' or both")
        for one in self.of:
            if one not in ("inputs", "targets"):
                raise UserError(
                    f"filter Language: of names '{one}'; give 'inputs', 'targets' or both"
                )


@dataclass(frozen=True)
class Function:
    """Drops examples that a function of the user's own refuses.

    Attributes:
      name: `module:name` of a function of one `flanx.prep.filtering.example.Example`. It returns True for what stays;
        False, or a reason in a few words under which it is counted, for what goes.
    """

    name: str

    def __post_init__(self) -> None:
        field_types.check(self)
        module, colon, function = self.name.partition(":")
        if not (
            colon and function.isidentifier() and all(map(str.isidentifier, module.split(".")))
        ):
            raise UserError(f"filter Function: name is '{self.name}'; write 'module:function'")


Filter = ExactDuplicates | NearDuplicates | Decontaminate | Length | Language | Function
CLASSES: tuple[type[Filter], ...] = (
    ExactDuplicates,
    NearDuplicates,
    Decontaminate,
    Length,
    Language,
    Function,
)
DUPLICATES = (ExactDuplicates, NearDuplicates)  # those that see a whole mixture
_BY_NAME = {cls.__name__: cls for cls in CLASSES}


def label(one: Filter) -> str:
    """The name under which a filter counts what it drops (a user's function may give names of its own)."""
    match one:
        case ExactDuplicates():
            return f"{PREFIX}exact_duplicate"
        case NearDuplicates():
            return f"{PREFIX}near_duplicate"
        case Decontaminate():
            return f"{PREFIX}contaminated"
        case Length():
            return f"{PREFIX}length_of_{one.of}"
        case Language():
            return f"{PREFIX}language"
        case Function():
            return f"{PREFIX}{one.name}"


def read(given: Iterable[Any]) -> tuple[Filter, ...]:
    """Filters from whatever form they come in: filters, calls as text, or what `to_json` gave.

    Raises:
      UserError: an unknown filter or setting (with the nearest), a setting that is missing or of no use.
    """
    if isinstance(given, (str, *CLASSES)):
        given = (given,)
    return tuple(map(_read, given))


def to_json(one: Filter) -> dict[str, Any]:
    """`{"filter": name, **settings}`, all settings written out; `read` is its inverse."""
    settings = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    return {"filter": type(one).__name__, **lists}


def _read(given: Any) -> Filter:
    if isinstance(given, CLASSES):
        return given
    if isinstance(given, str):
        return _parse(given)
    if isinstance(given, Mapping) and isinstance(given.get("filter"), str):
        return _make(given["filter"], (), {k: v for k, v in given.items() if k != "filter"})
    raise UserError(f"filter {given!r}: write a call, 'NearDuplicates(threshold=0.8)', say")


def _parse(text: str) -> Filter:
    """`Name(setting=value, ...)`; the brackets may be left out where nothing is set."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return _make(tree.id, (), {})
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise ValueError
        positional = tuple(ast.literal_eval(value) for value in tree.args)
        settings = {str(k.arg): ast.literal_eval(k.value) for k in tree.keywords}
    except (SyntaxError, ValueError):
        raise UserError(
            f"filter '{text}' cannot be read; write a call with plain values, "
            "'NearDuplicates(threshold=0.8)', say, text in quotes"
        ) from None
    return _make(tree.func.id, positional, settings)


def _make(name: str, positional: tuple[Any, ...], settings: Mapping[str, Any]) -> Filter:
    cls = _BY_NAME.get(name)
    if cls is None:
        raise UserError(
            f"unknown filter '{name}'{did_you_mean(name, _BY_NAME)} (there are {', '.join(_BY_NAME)})"
        )
    known = [field.name for field in dataclasses.fields(cls)]
    for setting in settings:
        if setting not in known:
            raise UserError(
                f"filter {name} has no setting '{setting}'{did_you_mean(setting, known)} "
                f"(it has {', '.join(known)})"
            )
    if len(positional) > len(known):
        raise UserError(f"filter {name} has {len(known)} settings, not {len(positional)}")
    given = {**dict(zip(known, positional, strict=False)), **settings}
    for field in dataclasses.fields(cls):
        if field.name not in given and field.default is dataclasses.MISSING:
            raise UserError(f"filter {name} needs a value for '{field.name}'")
    return cls(**given)


def _as_tuple(one: Any, name: str) -> None:
    value = getattr(one, name)
    if isinstance(value, str):
        object.__setattr__(one, name, (value,))
    elif isinstance(value, list):
        object.__setattr__(one, name, tuple(value))


def _need(right: bool, one: Any, name: str, words: str) -> None:
    if not right:
        raise UserError(
            f"filter {type(one).__name__}: {name} is {getattr(one, name)!r}; give {words}"
        )


def _need_word(one: Any, name: str, words: tuple[str, ...]) -> None:
    value = getattr(one, name)
    if value not in words:
        raise UserError(
            f"filter {type(one).__name__}: {name} is '{value}'; give {' or '.join(map(repr, words))}"
            f"{did_you_mean(value, words)}"
        )
