"""What gin files and flags bind, as written: names, references and places, with nothing evaluated."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.resources import gin_folder

COMMAND_LINE = "the command line"


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

    @property
    def is_macro(self) -> bool:
        return not self.argument

    @property
    def written(self) -> str:
        scope = f"{self.scope}/" if self.scope else ""
        return f"{scope}{self.selector}" + (f".{self.argument}" if self.argument else "")


def _locate(file: str, folders: Sequence[str]) -> Path:
    for folder in folders if not Path(file).is_absolute() else [""]:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    shipped = [str(p.relative_to(gin_folder())) for p in gin_folder().rglob("*.gin")]
    looked = ", ".join(folder or "." for folder in folders)
    raise UserError(f"no gin file '{file}' (looked in {looked}){did_you_mean(file, shipped)}")


def bindings_of_file(file: str, folders: Sequence[str], seen: set[str]) -> Iterator[Binding]:
    path = _locate(file, folders)
    if str(path) in seen:
        return
    seen.add(str(path))
    shipped = gin_folder() in path.absolute().parents
    yield from bindings_of_text(path.read_text(), str(path), folders, seen, shipped)


def bindings_of_text(
    text: str, place: str, folders: Sequence[str], seen: set[str], shipped: bool
) -> Iterator[Binding]:
    """The bindings as written, includes followed, nothing evaluated."""
    from gin import config_parser

    statements = statements_of(text, place)
    for statement in statements:
        if isinstance(statement, config_parser.IncludeStatement):
            yield from bindings_of_file(statement.filename, folders, seen)
        elif isinstance(statement, config_parser.BindingStatement):
            line = statement.location.line_num
            where = place if place == COMMAND_LINE else f"{place}:{line}"
            selector = statement.selector
            scope = statement.scope
            if not statement.arg_name and scope:
                scope, selector = "", f"{scope}/{selector}"
            macros = frozenset(_macros(statement.value))
            yield Binding(scope or "", selector, statement.arg_name or "", where, shipped, macros)


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
    except SyntaxError as error:
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


def modules_of_file(file: str, folders: Sequence[str], seen: set[str]) -> Iterator[str]:
    """Modules that a gin file and those it includes name: imports of others than flanx's, and DataConfig.imports."""
    path = _locate(file, folders)
    if str(path) not in seen:
        seen.add(str(path))
        yield from modules_of_text(path.read_text(), str(path), folders, seen)


def modules_of_text(text: str, place: str, folders: Sequence[str], seen: set[str]) -> Iterator[str]:
    """As `modules_of_file`."""
    from gin import config_parser

    for statement in statements_of(text, place):
        if isinstance(statement, config_parser.IncludeStatement):
            yield from modules_of_file(statement.filename, folders, seen)
        elif isinstance(statement, config_parser.ImportStatement):
            if statement.module.partition(".")[0] not in ("__gin__", "flanx"):
                yield statement.module
        elif isinstance(statement, config_parser.BindingStatement):
            owner = statement.selector.rpartition(".")[2]
            if (owner, statement.arg_name) == ("DataConfig", "imports"):
                yield from (leaf for leaf in _leaves(statement.value) if isinstance(leaf, str))
