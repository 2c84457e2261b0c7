"""Whether a configuration's values have the types that its dataclass says: gin and flags give whatever was written."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flanx.errors import UserError

_WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
_WORDS[type(None)] = "None"


def check(instance: Any) -> None:
    """Checks the plain fields of a dataclass; `check_whole` goes on into those that are dataclasses themselves.

    Raises:
      UserError: naming the field, its value, and what it should have been.
    """
    hints = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if not _fits(value, hints[field.name]):
            raise UserError(
                f"{type(instance).__name__}.{field.name} is {value!r}: give {_words(hints[field.name])}"
            )


def check_whole(instance: Any) -> None:
    """`check` of a dataclass, and of every dataclass among its values."""
    check(instance)
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        for part in value if isinstance(value, list | tuple) else (value,):
            if dataclasses.is_dataclass(part):
                check_whole(part)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        return isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items()
        )
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in _WORDS:
        return isinstance(value, hint)
    # An object of some class: any object will do that is no plain value (a user's own optimizer, say).
    return not isinstance(value, str | int | float | list | tuple | Mapping | None)


def _words(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, parts)))
    if origin is Literal:
        return " or ".join(map(repr, parts))
    if origin is tuple:
        return f"a tuple, each item {_words(parts[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a dict, each value {_words(parts[1])}"
    name = getattr(hint, "__name__", str(hint))
    return _WORDS.get(hint, f"@{name}()")
