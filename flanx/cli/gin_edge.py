"""Where gin ends and plain Python begins: files and flags in, one frozen config object out.

Nothing else in flanx reads gin. Its errors are turned into one line that names the file, line or flag and the mend.
"""

import argparse
import ast
import contextlib
import dataclasses
import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from flanx import field_types, named_modules
from flanx.cli import run_config
from flanx.cli.gin_bindings import (
    COMMAND_LINE,
    ENCODING,
    Binding,
    Import,
    bindings_of_file,
    bindings_of_text,
    imports_of_file,
    modules_of_file,
    modules_of_text,
)
from flanx.errors import UserError, did_you_mean
from flanx.resources import gin_folder

if TYPE_CHECKING:
    from flanx.models import ModelConfig

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds `--gin_file`, `--gin.NAME=VALUE` and `--gin_search_paths`, as T5X users type them."""
    group = parser.add_argument_group(
        "configuration",
        "--gin.NAME=VALUE overrides one setting: a macro, or Class.field; a bare word or path is a string",
    )
    group.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        help="gin file; repeatable, later ones win; looked up in the working directory, the search "
        "paths, and flanx's own gin folder",
    )
    group.add_argument(
        "--gin_search_paths",
        default="",
        metavar="DIRS",
        help="comma-separated folders to look gin files up in",
    )
    # What main makes of --gin.NAME=VALUE, which argparse itself cannot take.
    group.add_argument("--gin_binding", action="append", default=[], help=argparse.SUPPRESS)
    group.add_argument(
        "--import",
        action="append",
        default=[],
        dest="imports",
        metavar="MODULE",
        help="module of yours that registers tasks; repeatable",
    )


def build(
    cls: type[T],
    args: argparse.Namespace,
    *,
    extra_files: Sequence[str] = (),
    run_file: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    check_unused: bool = True,
) -> T:
    """Parses the files and flags of `args` and returns the configured `cls`.

    Args:
      cls: a dataclass that the gin files configure.
      args: what `add_arguments` parsed.
      extra_files: gin files of flanx's own read before those of `args`; what they bind may go unused.
      run_file: a run's own config.gin, read as the extra files are, and checked first: it may configure flanx and
        modules that the user named, and run nothing else.
      defaults: macros this command does not need, with values for when the configuration requires them.
      check_unused: refuse a binding that nothing uses.

    Raises:
      UserError: an unreadable file, an unknown or unused name, a value left unset or of another type.
    """
    import gin

    def make() -> T:
        config: T = gin.get_configurable(cls)()
        return config

    return _build(
        make,
        cls.__name__,
        args,
        extra_files=extra_files,
        run_file=run_file,
        defaults=defaults,
        check_unused=check_unused,
    )


def build_model(args: argparse.Namespace) -> "ModelConfig":
    """The network that the files and flags of `args` bind to MODEL, or the only one that they configure.

    What else they bind may go unused.

    Raises:
      UserError: as `build`; or no network is there, or several.
    """
    import gin
    from gin import config as gin_config

    def make() -> "ModelConfig":
        config: ModelConfig
        if "MODEL" in {scope for scope, selector in gin_config._CONFIG if selector == "gin.macro"}:
            config = gin.query_parameter("MODEL/gin.macro.value").scoped_configurable_fn()
            return config
        found = {gin_config._REGISTRY[selector].wrapped for _, selector in gin_config._CONFIG}
        networks = [configurable for configurable in found if hasattr(configurable, "family")]
        if len(networks) != 1:
            raise UserError(
                "which network? Bind MODEL, or add a model's file, --gin_file=models/t5_1_1/small.gin, say"
            )
        config = gin.get_configurable(networks[0])()
        return config

    return _build(make, "MODEL", args, check_unused=False)


def _build(
    make: Callable[[], T],
    name: str,
    args: argparse.Namespace,
    *,
    extra_files: Sequence[str] = (),
    run_file: str | None = None,
    defaults: Mapping[str, Any] | None = None,
    check_unused: bool = True,
) -> T:
    """Parses, makes and checks; arguments and errors as those of `build`."""
    import gin
    from flanx.user_code import from_source
    from gin import config as gin_config

    extra_files = [*extra_files, *([run_file] if run_file else [])]
    files = [*extra_files, *args.gin_file]
    if not files:
        raise UserError(
            f"no configuration: give --gin_file=FILE (flanx's own are in {gin_folder()}, "
            "for instance --gin_file=quickstart.gin)"
        )
    folders = _search_folders(args)
    flags = [_flag(text) for text in args.gin_binding]
    from_source.install()  # a gin file may import modules of tasks
    gin.clear_config()
    gin_config._LOCATION_PREFIXES[:] = folders
    try:
        name_modules(args)
        if run_file:
            run_config.check(run_file)
        bindings = [b for file in files for b in bindings_of_file(file, folders, set())]
        written_by_flanx = {
            b.place for f in extra_files for b in bindings_of_file(f, folders, set())
        }
        own = [one for file in args.gin_file for one in imports_of_file(file, folders)]
        modules = _import_own(own)
        with _quiet(), _reading(gin_config):
            for file in files:
                gin.parse_config_file(file)
            flags = [(n, _value(gin_config, bindings, n, value)) for n, value in flags]
            gin.parse_config([f"{n} = {value}" for n, value in flags])
    except UserError:
        raise
    except Exception as error:
        raise UserError(_parse_message(error)) from error
    bindings += bindings_of_text(_flag_text(flags), COMMAND_LINE, folders, set(), False)
    for macro, value in (defaults or {}).items():
        if _is_required(gin_config, gin_config._CONFIG.get((macro, "gin.macro"), {}).get("value")):
            gin.bind_parameter(f"{macro}/gin.macro.value", value)
    _check_set(gin_config, bindings)
    _pass_imports(gin_config, [*modules, *args.imports])
    try:
        config = make()
        field_types.check_whole(config)
    except UserError as error:
        # Gin appends the calls that led there.
        raise UserError(str(error).partition("\n")[0]) from error
    except Exception as error:
        mend = run_config.mend(run_file) if run_file and not (args.gin_file or flags) else ""
        raise UserError(_build_message(name, error) + mend) from error
    if check_unused:
        _check_unused(gin_config, [b for b in bindings if b.place not in written_by_flanx])
    return config


def name_modules(args: argparse.Namespace) -> None:
    """Takes note of the modules that the command line names, itself or in the gin files it names.

    Raises:
      UserError: an unreadable file.
    """
    folders = _search_folders(args)
    named_modules.name(args.imports)
    for file in args.gin_file:
        named_modules.name(modules_of_file(file, folders))
    written = [(name, _literal(value)) for name, value in map(_flag, args.gin_binding)]
    named_modules.name(modules_of_text(_flag_text(written), COMMAND_LINE, folders))


def binds(args: argparse.Namespace, name: str) -> bool:
    """Whether a file or flag of the command line binds a macro, or a setting by this name of any class.

    Raises:
      UserError: an unreadable file.
    """
    folders = _search_folders(args)
    flags = {_flag(text)[0] for text in args.gin_binding}
    files = (b for file in args.gin_file for b in bindings_of_file(file, folders, set()))
    names = {flag.rpartition(".")[2] for flag in flags} | {b.argument or b.written for b in files}
    return name in names


def operative_config() -> str:
    """The settings that the last `build` used, defaults included, as a gin file that repeats it."""
    import gin

    return gin.operative_config_str()


def _search_folders(args: argparse.Namespace) -> list[str]:
    extra = [folder for folder in args.gin_search_paths.split(",") if folder]
    return ["", *extra, str(gin_folder())]


def _flag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--gin.{text}: no value; write --gin.{text}=VALUE")
    if not value.strip():
        raise UserError(
            f"--gin.{text}: the value is empty (an unset shell variable?); write --gin.{text}VALUE"
        )
    return name.strip(), value.strip()


def _value(gin_config: Any, bindings: Sequence[Binding], name: str, value: str) -> str:
    """A flag's value as gin source. Where the setting is text, so is 2024 or True."""
    source = _literal(value)
    if source == value and (value[0].isalnum() or value[0] in "+-."):
        hints = _types(gin_config, bindings, name)
        if hints and all(hint is str or (hint == str | None and value != "None") for hint in hints):
            return repr(value)
    return source


def _types(gin_config: Any, bindings: Sequence[Binding], name: str) -> list[Any]:
    """The types of the settings that a flag sets: its own, or those that are its macro."""
    names, fields = {name}, set()
    for _ in bindings:
        more = {b.written for b in bindings if b.is_macro and b.macro in names} - names
        if not more:
            break
        names |= more
    if "." in name:
        fields.add(tuple(name.rpartition("/")[2].split(".")[-2:]))
    fields |= {(b.selector.rsplit(".", 1)[-1], b.argument) for b in bindings if b.macro in names}
    found = []
    for configurable in gin_config._REGISTRY._selector_map.values():
        for selector, argument in fields:
            if configurable.name == selector and dataclasses.is_dataclass(configurable.wrapped):
                found.append(get_type_hints(configurable.wrapped).get(argument))
    return found


def _literal(value: str) -> str:
    """A flag's value as gin source: references and Python literals as they are, anything else a string."""
    if value[:1] in ("@", "%"):
        return value
    if value[:1] in "([{\"'" and re.search(r"[@%]", value):
        return value
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError):
        return repr(value)
    return value


def _flag_text(flags: Sequence[tuple[str, str]]) -> str:
    return "".join(f"{name} = {value}\n" for name, value in flags)


def _import_own(imports: Sequence[Import]) -> list[str]:
    """Imports the user's modules that gin files import, so that gin finds them; returns those that may register tasks.

    An installed package's do not: `--import` or MIXTURE_OR_TASK_MODULE names it.
    """
    if not imports:
        return []
    from flanx.user_code.importing import import_users
    from flanx.user_code.project_code import is_installed

    found = []
    for module, place in imports:
        file = getattr(import_users(module, f"{place}: import {module}"), "__file__", None)
        if file and not is_installed(file):
            found.append(module)
    return found


def _pass_imports(gin_config: Any, modules: Sequence[str]) -> None:
    """`--import` is the same as binding DataConfig.imports, or the macro that it is bound to."""
    if not modules:
        return
    key = ("", "flanx.training.config.DataConfig")
    parameter = "imports"
    given = gin_config._CONFIG.get(key, {}).get(parameter)
    while isinstance(given, gin_config.ConfigurableReference):
        key, parameter = given.config_key, "value"
        given = gin_config._CONFIG.get(key, {}).get(parameter)
    if isinstance(given, str):
        given = (given,)
    scope, selector = key
    name = f"{scope}/{selector}.{parameter}" if scope else f"{selector}.{parameter}"
    gin_config.bind_parameter(name, tuple(dict.fromkeys([*(given or ()), *modules])))


def _check_set(gin_config: Any, bindings: Sequence[Binding]) -> None:
    """Every macro that something refers to has a value."""
    config = gin_config._CONFIG
    macro = gin_config.macro
    places = {b.written: b.place for b in bindings if b.is_macro}
    for (scope, selector), parameters in config.items():
        for name, value in parameters.items():
            if _is_required(gin_config, value):
                written = scope if selector == "gin.macro" else f"{selector}.{name}"
                raise UserError(
                    f"{written} is not set ({places.get(written, 'the configuration')} asks for it); "
                    f"add --gin.{written}=VALUE"
                )
    defined = [scope for scope, selector in config if selector == "gin.macro"]
    wrapper = gin_config.get_configurable(macro)
    for reference in gin_config.iterate_references(config, to=wrapper):
        name = reference.config_key[0]
        if reference.config_key not in config:
            raise UserError(
                f"%{name} is used but never set; add --gin.{name}=VALUE{did_you_mean(name, defined)}"
            )


def _is_required(gin_config: Any, value: Any) -> bool:
    return (
        isinstance(value, gin_config.ConfigurableReference)
        and value.configurable.wrapped == gin_config._retrieve_constant
        and value.scoped_configurable_fn() is gin_config.REQUIRED
    )


def _check_unused(gin_config: Any, bindings: Sequence[Binding]) -> None:
    """Refuses a binding that nothing used, unless it is a default of flanx's own that the user replaced."""
    operative = gin_config._OPERATIVE_CONFIG
    used_macros = {scope for scope, selector in operative if selector == "gin.macro"}
    # A file's macro may be overridden by a later, more precise binding; a flag must have its effect.
    referred = frozenset().union(*(b.macros for b in bindings))
    for binding in bindings:
        if binding.shipped:
            continue
        if binding.is_macro:
            overridden = binding.selector in referred and binding.place != COMMAND_LINE
            if binding.selector not in used_macros and not overridden:
                raise UserError(
                    f"{binding.place}: nothing uses {binding.written}"
                    f"{did_you_mean(binding.written, used_macros)}"
                )
        elif not _parameter_used(operative, binding):
            names = {
                f"{selector.rsplit('.', 1)[-1]}.{p}"
                for (_, selector), ps in operative.items()
                for p in ps
            }
            short = f"{binding.selector.rsplit('.', 1)[-1]}.{binding.argument}"
            raise UserError(
                f"{binding.place}: nothing uses {binding.written}"
                f"{did_you_mean(short, names - {short})}"
            )


def _parameter_used(operative: dict, binding: Binding) -> bool:
    name = binding.selector.rsplit(".", 1)[-1]
    for (scope, selector), parameters in operative.items():
        if selector.rsplit(".", 1)[-1] != name or binding.argument not in parameters:
            continue
        if not binding.scope or scope == binding.scope or scope.startswith(binding.scope + "/"):
            return True
    return False


def _parse_message(error: Exception) -> str:
    """Gin's parse errors in one line: the fault, then the file and line it names."""
    text = " ".join(str(error).split())
    where = re.findall(r"In file \"?([^\"]+?)\"?, line (\d+)", text)
    text = re.split(r" ?In (?:file|bindings string)", text)[0].strip().rstrip(".")
    place = f"{where[0][0]}:{where[0][1]}" if where else COMMAND_LINE
    return f"{place}: {_plain(text)}{_module_hint(error)}"


def _plain(text: str) -> str:
    """What gin says of a wrong name, in plain words and with the nearest right one."""
    from gin import config as gin_config

    known = list(gin_config._REGISTRY._selector_map.values())
    if found := re.search(r"Configurable '([^']+)' doesn't have a parameter named '([^']+)'", text):
        selector, parameter = found.groups()
        name = selector.rsplit(".", 1)[-1]
        fields = [
            field.name
            for configurable in known
            if configurable.name == name and dataclasses.is_dataclass(configurable.wrapped)
            for field in dataclasses.fields(configurable.wrapped)
        ]
        return f"{selector} has no setting '{parameter}'{did_you_mean(parameter, fields)}"
    if found := re.search(
        r"Couldn't resolve selector \S+; <module '([^']+)'.*has no attribute (\w+)", text
    ):
        module, name = found.groups()
        return f"{module} has no '{name}'{did_you_mean(name, vars(sys.modules[module]))}"
    if found := re.search(r"No configurable matching '([^']+)'", text):
        name = found.group(1)
        hint = did_you_mean(name.rsplit(".", 1)[-1], [configurable.name for configurable in known])
        return f"nothing to configure is named '{name}'{hint or '; a gin file must use it first'}"
    return text


def _module_hint(error: Exception) -> str:
    return "; is its folder on PYTHONPATH?" if isinstance(error, ImportError) else ""


@contextlib.contextmanager
def _reading(gin_config: Any) -> Iterator[None]:
    """Gin reads files as UTF-8 whatever the locale, with a byte-order mark or without."""
    before = list(gin_config._FILE_READERS)
    reader = (functools.partial(open, encoding=ENCODING), os.path.isfile)
    gin_config._FILE_READERS[:] = [reader, *before]
    try:
        yield
    finally:
        gin_config._FILE_READERS[:] = before


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Gin logs an error for each search path a file is not in; the file is found in the next one."""

    def relevant(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Path not found")

    root = logging.getLogger()
    root.addFilter(relevant)
    try:
        yield
    finally:
        root.removeFilter(relevant)


def _build_message(name: str, error: Exception) -> str:
    text = " ".join(str(error).split())
    missing = re.search(r"No values supplied by Gin or caller for arguments: \[([^\]]*)\]", text)
    owner = re.search(
        r"In call to configurable '([^']+)'(?: \([^)]*\))?(?: in scope '([^']+)')?", text
    )
    if missing and owner:
        names = missing.group(1).replace("'", "")
        scope = f"{owner.group(2)}/" if owner.group(2) else ""
        return f"{scope}{owner.group(1)} needs a value for {names}; bind it in a gin file or a --gin flag"
    if any(t in text for t in ("not registered", "was never", "No configurable", "Could not find")):
        return f"no gin file configures {name}; include 'runs/train.gin' in yours"
    return re.split(r" In call to configurable", text)[0]
