"""What gin files and flags bind, as written: names, references and places, with nothing evaluated."""

import dataclasses
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from flanx.errors import UserError, did_you_mean
from flanx.resources import gin_folder

COMMAND_LINE = "the command line"
MODULES_MACRO = "MIXTURE_OR_TASK_MODULE"  # T5X's, in runs/train.gin bound to DataConfig.imports
ENCODING = "utf-8-sig"  # UTF-8, with a byte-order mark or without


@dataclasses.dataclass(frozen=True)
class _Macro:
    """`%NAME` in a value."""

    name: str


@dataclasses.dataclass(frozen=True)
class Reference:
    """`@scope/NAME` or `@scope/NAME()` in a value."""

    selector: str  # without its scope


@dataclasses.dataclass(frozen=True)
class Binding:
    """One `NAME = value` of a gin file or flag: its key as written, and where it stands."""

    scope: str
    selector: str
    argument: str  # empty for a macro
    place: str
    shipped: bool  # stands in a gin file of flanx's own
    macros: frozenset[str]  # the macros its value refers to
    macro: str | None  # the one that is its whole value

    @property
    def is_macro(self) -> bool:
        return not self.argument

    @property
    def written(self) -> str:
        scope = f"{self.scope}/" if self.scope else ""
        return f"{scope}{self.selector}" + (f".{self.argument}" if self.argument else "")


class Import(NamedTuple):
    """A module that a gin file imports, and where it says so."""

    module: str
    place: str


# A statement of gin's parser, the file that it stands in, and whether that is flanx's own.
_Stated = tuple[Any, str, bool]


def _locate(file: str, folders: Sequence[str]) -> Path:
    for folder in folders if not Path(file).is_absolute() else [""]:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    shipped = [str(p.relative_to(gin_folder())) for p in gin_folder().rglob("*.gin")]
    looked = ", ".join(folder or "." for folder in folders)
    raise UserError(f"no gin file '{file}' (looked in {looked}){did_you_mean(file, shipped)}")


def bindings_of_file(file: str, folders: Sequence[str], seen: set[str]) -> Iterator[Binding]:
    """The bindings of a gin file as written, includes followed, nothing evaluated.

    Raises:
      UserError: no such file, or one that is not gin, by file and line.
    """
    return _bindings(_statements_of_file(file, folders, seen))


def bindings_of_text(
    text: str, place: str, folders: Sequence[str], seen: set[str], shipped: bool
) -> Iterator[Binding]:
    """The bindings of gin source, as `bindings_of_file`."""
    return _bindings(_statements(text, place, folders, seen, shipped))


def imports_of_file(file: str, folders: Sequence[str]) -> Iterator[Import]:
    """The user's own modules that a gin file imports: not flanx's, nor those that flanx's own files import.

    Raises:
      UserError: as `bindings_of_file`.
    """
    for statement, place, shipped in _statements_of_file(file, folders, set()):
        module = _others_module(statement)
        if module and not shipped:
            yield Import(module, _where(place, statement))


def modules_of_file(file: str, folders: Sequence[str]) -> Iterator[str]:
    """The modules that a gin file names, with those it includes: imports of others than flanx's, DataConfig.imports.

    Raises:
      UserError: as `bindings_of_file`.
    """
    return _modules(_statements_of_file(file, folders, set()))


def modules_of_text(text: str, place: str, folders: Sequence[str]) -> Iterator[str]:
    """The modules that gin source names, as `modules_of_file`."""
    return _modules(_statements(text, place, folders, set(), False))


def _modules(statements: Iterable[_Stated]) -> Iterator[str]:
    for statement, _, _ in statements:
        module = _others_module(statement)
        if module:
            yield module
        elif argument := getattr(statement, "arg_name", None) or getattr(statement, "selector", ""):
            owner = statement.selector.rpartition(".")[2]
            if argument == MODULES_MACRO or (owner, argument) == ("DataConfig", "imports"):
                leaves = _leaves(getattr(statement, "value", ()))
                yield from (leaf for leaf in leaves if isinstance(leaf, str))


def _others_module(statement: Any) -> str:
    """The module that a statement imports, if it is not flanx's; else empty."""
    module = getattr(statement, "module", "")
    return "" if module.partition(".")[0] in ("__gin__", "flanx") else module


def _statements_of_file(file: str, folders: Sequence[str], seen: set[str]) -> Iterator[_Stated]:
    path = _locate(file, folders)
    if str(path) in seen:
        return
    seen.add(str(path))
    shipped = gin_folder() in path.absolute().parents
    yield from _statements(text_of(path), str(path), folders, seen, shipped)


def text_of(path: Path) -> str:
    """A gin file's text, UTF-8 with or without a byte-order mark.

    Raises:
      UserError: other bytes, by line.
    """
    content = path.read_bytes()
    try:
        return content.decode(ENCODING)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from error


def _statements(
    text: str, place: str, folders: Sequence[str], seen: set[str], shipped: bool
) -> Iterator[_Stated]:
    from gin import config_parser

    statements = statements_of(text, place)
    for statement in statements:
        if isinstance(statement, config_parser.IncludeStatement):
            yield from _statements_of_file(statement.filename, folders, seen)
        else:
            yield statement, place, shipped


def _unclosed(text: str) -> str | None:
    """`line: what is not closed there`: the innermost bracket that is open where the file ends, or a string."""
    stack: list[tokenize.TokenInfo] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.OP and token.string in "([{":
                stack.append(token)
            elif token.type == tokenize.OP and token.string in ")]}" and stack:
                stack.pop()
    except tokenize.TokenError as error:
        if "string" in str(error) or not stack:
            return f"{error.args[1][0]}: not gin: a string is not closed"
        return f"{stack[-1].start[0]}: not gin: '{stack[-1].string}' is not closed"
    except SyntaxError:  # its indentation, which is reported as the parser has it
        pass
    return None


def _where(place: str, statement: Any) -> str:
    return place if place == COMMAND_LINE else f"{place}:{statement.location.line_num}"


def _bindings(statements: Iterable[_Stated]) -> Iterator[Binding]:
    from gin import config_parser

    for statement, place, shipped in statements:
        if isinstance(statement, config_parser.BindingStatement):
            value, selector, scope = statement.value, statement.selector, statement.scope
            if not statement.arg_name and scope:
                scope, selector = "", f"{scope}/{selector}"
            yield Binding(
                scope or "",
                selector,
                statement.arg_name or "",
                _where(place, statement),
                shipped,
                frozenset(_macros(value)),
                value.name if isinstance(value, _Macro) else None,
            )


def statements_of(text: str, place: str) -> list[Any]:
    """The statements as gin's parser has them, with a `Reference` for each reference; nothing is evaluated.

    Raises:
      UserError: the text is not gin.
    """
    from gin import config_parser

    class Inert(config_parser.ParserDelegate):
        def configurable_reference(self, scoped_name: str, evaluate: bool) -> Reference:
            return Reference(scoped_name.rpartition("/")[2])

        def macro(self, scoped_macro_name: str) -> _Macro:
            return _Macro(scoped_macro_name)

    try:
        return list(config_parser.ConfigParser(text, Inert()))
    except (SyntaxError, tokenize.TokenError) as error:
        if unclosed := _unclosed(text):
            raise UserError(f"{place}:{unclosed}") from error
        if not isinstance(error, SyntaxError):
            raise
        where = f"{place}:{error.lineno}"
        if bare := re.search(r"Failed to parse token '(.+)'", error.msg):
            raise UserError(f"{where}: text needs quotes: {bare.group(1)} ...") from error
        raise UserError(f"{where}: not gin: {error.msg.rstrip('.')}") from error


def references(value: Any) -> Iterator[Reference]:
    """The references in a parsed value, at any depth."""
    return (leaf for leaf in _leaves(value) if isinstance(leaf, Reference))


def _macros(value: Any) -> Iterator[str]:
    """The macros that a parsed value refers to, at any depth."""
    return (leaf.name for leaf in _leaves(value) if isinstance(leaf, _Macro))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for pair in value.items():
            yield from _leaves(pair)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
