"""Whose code may run: the modules that the user named, and the functions that registered tasks named.

Files are data: a name that only a run's folder or a token store holds imports nothing.
"""

from collections.abc import Iterable

from flanx.errors import UserError

_MODULES: dict[str, None] = {}
_FUNCTIONS: set[str] = set()


def name(modules: Iterable[str]) -> None:
    """Takes note of modules that the user named: with `--import`, in a gin file, or in a program of theirs."""
    _MODULES.update(dict.fromkeys(modules))


def modules() -> tuple[str, ...]:
    """The modules named so far."""
    return tuple(_MODULES)


def within(module: str, packages: Iterable[str]) -> bool:
    """Whether `module` is one of `packages` or lies in one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_named(module: str) -> bool:
    """Whether the user named the module or a package it lies in."""
    return within(module, _MODULES)


def register(function: str) -> None:
    """Takes note of a function, as "module:name", that a task's registration named: code which the user ran."""
    _FUNCTIONS.add(function)


def is_registered(function: str) -> bool:
    """Whether a task's registration named the function."""
    return function in _FUNCTIONS


def check(wanted: Iterable[str], place: str) -> None:
    """Refuses modules that a file asks for and the user has not named.

    Raises:
      UserError: names the first, and the flag that allows it.
    """
    for module in wanted:
        if not is_named(module):
            raise refusal(f"{place} asks for module '{module}'", module)


def refusal(what: str, module: str) -> UserError:
    """That something stored needs a module; nothing of it was run."""
    return UserError(
        f"{what}, which stored files alone do not run (nothing was run); "
        f"if you trust it, add --import={module}"
    )
