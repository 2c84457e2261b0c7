"""A run's own config.gin is data: before gin reads it, its statements are checked to run nothing but flanx's settings.

It holds what `gin_edge.operative_config` wrote: imports of flanx's configurable modules, their dataclasses, and plain
values. Whatever else stands in it was put there, or is of modules that the user has to name.
"""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from flanx import named_modules
from flanx.cli.gin_bindings import references, statements_of, text_of
from flanx.errors import UserError

CONFIGURABLE = (
    "flanx.evaluation.suites",
    "flanx.models.decoder.config",
    "flanx.models.t5.config",
    "flanx.sharding.config",
    "flanx.training.config",
    "flanx.training.optimizer",
    "flanx.training.schedules",
)
_DYNAMIC = "__gin__.dynamic_registration"


def check(file: str) -> None:
    """Refuses a run's config.gin that would run other code than flanx's settings; nothing is run to find out.

    Modules that the user has named (`flanx.named_modules`) may be imported, and what they define be used.

    Raises:
      UserError: the first such line, and the flag that allows it where one does.
    """
    from gin import config_parser

    symbols: dict[str, str] = {}
    try:
        statements = statements_of(text_of(Path(file)), file)
    except UserError as error:
        raise UserError(f"{error}{mend(file)}") from error
    for statement in statements:
        place = f"{file}:{statement.location.line_num}"
        if isinstance(statement, config_parser.IncludeStatement):
            raise UserError(
                f"{place}: a run's own config.gin includes no other file; if you trust it, give it with --gin_file"
            )
        if isinstance(statement, config_parser.ImportStatement):
            _import(statement, place, symbols)
        elif isinstance(statement, config_parser.BlockDeclaration):
            _selector(statement.selector, place, symbols)
        elif isinstance(statement, config_parser.BindingStatement):
            if statement.arg_name:
                _selector(statement.selector, place, symbols)
            for reference in references(statement.value):
                _selector(reference.selector, place, symbols)


def mend(file: str) -> str:
    """What helps where the file itself is at fault, and nothing that was typed."""
    return f"; if {file} is damaged, move it away: the checkpoint says what its model is"


def _import(statement: Any, place: str, symbols: dict[str, str]) -> None:
    """Takes note of what an import binds, if its module may be imported."""
    module = statement.module
    if statement.is_from and module == _DYNAMIC:
        return
    if module not in CONFIGURABLE and not named_modules.is_named(module):
        raise named_modules.refusal(f"{place} imports '{module}'", module)
    whole = statement.is_from or statement.alias
    symbols[statement.bound_name()] = module if whole else module.partition(".")[0]


def _selector(selector: str, place: str, symbols: dict[str, str]) -> None:
    """Refuses a selector that is not a class of an allowed module, defined there."""
    symbol, _, rest = selector.partition(".")
    module, _, name = f"{symbols.get(symbol, symbol)}.{rest}".rpartition(".")
    if module in CONFIGURABLE:
        found = getattr(importlib.import_module(module), name, None)
        # A module may hand on a class of another: `flanx.training.config` has the mesh's.
        if not isinstance(found, type) or found.__module__ not in CONFIGURABLE:
            found = None
        if found is not None and dataclasses.is_dataclass(found):
            return
    elif named_modules.is_named(module):
        from flanx.user_code.importing import import_users

        found = getattr(import_users(module, place), name, None)
        if named_modules.is_named(str(getattr(found, "__module__", ""))):
            return
    raise UserError(
        f"{place}: '{selector}' is none of flanx's settings, which is all that a run's own config.gin may configure "
        "(nothing was run); if it is of a module of yours that you trust, add --import=MODULE"
    )
