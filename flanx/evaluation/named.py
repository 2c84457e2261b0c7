"""Functions stored by name: `"module:name"` to function and back."""

import importlib
import sys
from collections.abc import Callable, Collection
from typing import Any

from flanx.errors import UserError, did_you_mean


def load_named(name: str, *, home: str, known: Collection[str], kind: str) -> Callable[..., Any]:
    """The function that `"module:name"` names; a bare name is looked up in the module `home`.

    Args:
      name: `"module:name"`, or a bare name.
      home: module of bare names.
      known: public names of `home`, offered when a bare name is unknown.
      kind: what the function is, for messages ("metric").

    Raises:
      UserError: there is no such module or function.
    """
    module_name, _, attribute = name.rpartition(":")
    module_name = module_name or home
    if module_name == home and attribute not in known:
        raise UserError(
            f"unknown {kind} '{name}'{did_you_mean(attribute, known)}"
            f" (flanx has: {', '.join(sorted(known))})"
        )
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(f"{kind} '{name}': no module named '{error.name}'") from error
    module = found
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UserError(
            f"{kind} '{name}': module '{module_name}' has no function '{attribute}'"
            f"{did_you_mean(attribute, [n for n in vars(module) if not n.startswith('_')])}"
        )
    return found


def name_of_callable(function: Any, *, home: str, known: Collection[str], kind: str) -> str:
    """`"module:name"` by which `load_named` finds `function`; a name is checked and completed.

    Raises:
      UserError: a lambda, a local function or an object without a name, or an unknown name.
    """
    if isinstance(function, str):
        loaded = load_named(function, home=home, known=known, kind=kind)
        return function if ":" in function else f"{loaded.__module__}:{loaded.__qualname__}"
    if not callable(function):
        raise UserError(f"{kind} {function!r} is no function: give a function or its 'module:name'")
    name = getattr(function, "__qualname__", "")
    module_name = getattr(function, "__module__", None)
    if not name or not module_name or "<" in name:
        where = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
        line = f" at {function.__code__.co_filename}:{where}" if where else ""
        raise UserError(
            f"{kind} {name or function!r}{line} cannot be stored by name:"
            " define it with def at the top of a module"
        )
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    # A module still being imported may not have bound the name yet; it is then taken on trust.
    if found is not None and found is not function:
        raise UserError(
            f"{kind} '{module_name}:{name}' is not the function given: another one has that name"
        )
    return f"{module_name}:{name}"
