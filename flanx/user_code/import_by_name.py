"""Functions stored by name: `"module:name"` to function and back."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from flanx import named_modules
from flanx.errors import UserError, did_you_mean
from flanx.user_code.importing import import_users

_TASKS = ("flanx.tasks", "flanx.mixtures")


@dataclass(frozen=True)
class Kind:
    """A kind of functions that tasks name.

    The module of bare names is data as the functions' own are, imported when one is asked for: what registers tasks
    stands below what evaluates them.

    Attributes:
      word: what messages call it.
      home: module of bare names; its `NAMES` are those that it offers.
    """

    word: str
    home: str

    @property
    def known(self) -> Collection[str]:
        """The bare names."""
        names: Collection[str] = importlib.import_module(self.home).NAMES
        return names


METRIC = Kind("metric", "flanx.evaluation.metrics")
POSTPROCESSOR = Kind("postprocessor", "flanx.evaluation.postprocess")


def load(name: str, kind: Kind) -> Callable[..., Any]:
    """The function that a stored `"module:name"` names; a bare name is looked up in the kind's home.

    Stored names are data: only functions that flanx or its task modules define for the purpose, that a module the user
    named defines, or that a task's registration named, are found. Nothing else is imported or called.

    Args:
      name: `"module:name"`, or a bare name.
      kind: what the function is.

    Raises:
      UserError: there is no such module or function, or it is of a module that the user has not named.
    """
    module_name, _, attribute = name.rpartition(":")
    module_name = module_name or kind.home
    if module_name == kind.home or named_modules.is_registered(f"{module_name}:{attribute}"):
        return _load(name, kind)
    if named_modules.is_named(module_name) or named_modules.within(module_name, _TASKS):
        found = _load(name, kind)
        if getattr(found, "__module__", None) == module_name and "." not in attribute:
            return found
    else:
        # A module that the user named may register tasks with functions of others that it imports.
        for module in named_modules.modules():
            with contextlib.suppress(UserError):  # one that is not there defines nothing
                import_users(module, f"--import {module}")
    if named_modules.is_registered(f"{module_name}:{attribute}"):
        return _load(name, kind)
    if named_modules.is_named(module_name):
        raise UserError(
            f"{kind.word} '{name}': module '{module_name}' neither defines it nor registers a task with it; "
            "nothing was run"
        )
    raise named_modules.refusal(
        f"{kind.word} '{name}' is a function of module '{module_name}'", module_name
    )


def _load(name: str, kind: Kind) -> Callable[..., Any]:
    module_name, _, attribute = name.rpartition(":")
    module_name = module_name or kind.home
    if module_name == kind.home and attribute not in kind.known:
        raise UserError(
            f"unknown {kind.word} '{name}'{did_you_mean(attribute, kind.known)}"
            f" (flanx has: {', '.join(sorted(kind.known))})"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind.word} '{name}': no module named '{error.name}'") from error
    module = found
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UserError(
            f"{kind.word} '{name}': module '{module_name}' has no function '{attribute}'"
            f"{did_you_mean(attribute, [n for n in vars(module) if not n.startswith('_')])}"
        )
    return found


def name_of(function: Any, kind: Kind) -> str:
    """`"module:name"` by which `load` finds `function` from now on; a name is checked and completed.

    For code that registers tasks alone: what it names is the user's choice.

    Raises:
      UserError: a lambda, a local function or an object without a name, or an unknown name.
    """
    if isinstance(function, str):
        loaded = _load(function, kind)
        full = function if ":" in function else f"{loaded.__module__}:{loaded.__qualname__}"
        named_modules.register(full)
        return full
    if not callable(function):
        raise UserError(
            f"{kind.word} {function!r} is no function: give a function or its 'module:name'"
        )
    name = getattr(function, "__qualname__", "")
    module_name = getattr(function, "__module__", None)
    if not name or not module_name or "<" in name:
        where = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
        line = f" at {function.__code__.co_filename}:{where}" if where else ""
        raise UserError(
            f"{kind.word} {name or function!r}{line} cannot be stored by name:"
            " define it with def at the top of a module"
        )
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    # A module still being imported may not have bound the name yet; it is then taken on trust.
    if found is not None and found is not function:
        raise UserError(
            f"{kind.word} '{module_name}:{name}' is not the function given: another one has that name"
        )
    named_modules.register(f"{module_name}:{name}")
    return f"{module_name}:{name}"
