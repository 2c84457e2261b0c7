"""Stable hashes of the project's functions, and of the values that they use.

The hash of a function follows everything of the project that it uses: nested functions, constants, default arguments,
closures, decorators, and the helper functions, classes and module constants that it names. Functions count by their
normalised source (`function_source`), so comments, layout, docstrings, line numbers, file paths, PYTHONHASHSEED and the
Python version do not matter. A function without a source counts by its bytecode and the Python version; what is written
in C counts by name, and so do Python's own library, installed packages, and flanx's engine, whose parts have versions
of their own.
"""

import collections
import dataclasses
import enum
import functools
import hashlib
import importlib.metadata
import re
import reprlib
import sys
import typing
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from flanx.user_code import function_source
from flanx.user_code.project_code import is_installed

_NAMED_FIELD = type(collections.namedtuple("_Pair", "left").left)  # type: ignore[attr-defined]
_DESCRIPTORS = (
    GetSetDescriptorType,
    MemberDescriptorType,
    _NAMED_FIELD,
)  # of slots: no content of their own
_MAKERS = {module.__file__ for module in (dataclasses, enum, reprlib, typing, collections)}


def code_hash(*things: Any) -> str:
    """Hex hash of functions and of any values they need.

    A function of an installed package counts by the package's version too, where it is given itself, or in a mapping:
    tasks may come in a package, which changes when another version of it is installed.
    """
    versions = _versions_of(things)
    return _Walk().digest((things, versions) if versions else things)


def _versions_of(things: Iterable[Any]) -> list[str]:
    """`name==version` of the installed packages that given functions are of; Python and flanx are none of them."""
    given = [
        one
        for thing in things
        for one in (thing.values() if isinstance(thing, Mapping) else (thing,))
    ]
    packages = {
        one.__module__.partition(".")[0]
        for one in given
        if isinstance(one, FunctionType) and is_installed(one.__code__.co_filename)
    }
    packages -= {"flanx", *sys.stdlib_module_names}
    names = {name for package in packages for name in _distributions().get(package, ())}
    return sorted(f"{name}=={importlib.metadata.version(name)}" for name in names)


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def code_files(*things: Any) -> tuple[str, ...]:
    """The source files of all project code that `code_hash(*things)` reads, sorted."""
    walk = _Walk()
    walk.digest(things)
    return tuple(sorted(file for file in walk.files if not file.startswith("<")))


class _Walk:
    """One depth-first walk over code and values; what was met before counts by its place in the walk."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._met: dict[int, int] = {}
        self._kept: list[Any] = []  # keeps ids alive

    def digest(self, thing: Any) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for piece in self._pieces(thing):
            digest.update(piece.encode("utf-8", "surrogatepass"))
            digest.update(b"\x00")
        return digest.hexdigest()

    def _pieces(self, thing: Any) -> Iterable[str]:
        if thing is None or isinstance(thing, (bool, int, float, complex, str, bytes)):
            yield f"{type(thing).__name__}:{thing!a}"
            return
        if isinstance(thing, (frozenset, set)):
            yield f"set:{len(thing)}"
            yield from sorted(_Walk().digest(item) for item in thing)
            return
        if id(thing) in self._met:
            yield f"again:{self._met[id(thing)]}"
            return
        self._met[id(thing)] = len(self._met)
        self._kept.append(thing)
        if isinstance(thing, (tuple, list)):
            yield f"{type(thing).__name__}:{len(thing)}"
            for item in thing:
                yield from self._pieces(item)
        elif isinstance(thing, Mapping):
            yield f"mapping:{len(thing)}"
            for key, value in thing.items():
                yield from self._pieces(key)
                yield from self._pieces(value)
        elif isinstance(thing, CodeType):
            yield from self._code(thing)
        elif isinstance(thing, FunctionType):
            yield from self._function(thing)
        elif isinstance(thing, MethodType):
            yield from self._pieces(thing.__func__)
            yield from self._pieces(thing.__self__)
        elif isinstance(thing, functools.partial):
            yield "partial"
            yield from self._pieces((thing.func, thing.args, thing.keywords))
        elif isinstance(thing, ModuleType):
            yield f"module:{thing.__name__}"
        elif isinstance(thing, type):
            yield from self._class(thing)
        else:
            yield from self._object(thing)

    def _code(self, code: CodeType) -> Iterable[str]:
        yield f"code:{sys.version_info[:2]}:{code.co_code.hex()}"
        yield from code.co_names
        yield from self._pieces(code.co_consts)

    def _function(self, function: FunctionType) -> Iterable[str]:
        if is_installed(function.__code__.co_filename):
            yield f"installed:{function.__module__}.{function.__qualname__}"
            yield from self._wrapped(function)
            return
        self.files.add(function.__code__.co_filename)
        source = function_source.normalised(function)
        if source is None:
            yield from self._code(function.__code__)
        else:
            yield f"source:{source}"
        yield from self._pieces(function.__defaults__)
        yield from self._pieces(function.__kwdefaults__)
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for _, cell in sorted(cells, key=lambda named: named[0]):
            try:
                yield from self._pieces(cell.cell_contents)
            except ValueError:  # not bound yet
                yield "empty cell"
        for name, value in _globals_used(function.__code__, function.__globals__):
            yield f"global:{name}"
            yield from self._pieces(value)

    def _wrapped(self, wrapper: Any) -> Iterable[str]:
        """The project's function inside a wrapper that is not the project's: `functools.cache`, say."""
        inner = getattr(wrapper, "__wrapped__", None)
        if isinstance(inner, FunctionType):
            yield from self._pieces(inner)

    def _class(self, cls: type) -> Iterable[str]:
        yield f"class:{cls.__module__}.{cls.__qualname__}"
        module = sys.modules.get(cls.__module__)
        if module is not None and is_installed(getattr(module, "__file__", None) or "<frozen>"):
            return
        for base in cls.__bases__:
            yield from self._pieces(base)
        if dataclasses.is_dataclass(cls):
            yield from self._pieces(_dataclass_settings(cls))
        if issubclass(cls, enum.Enum):
            yield from self._pieces({name: one.value for name, one in cls.__members__.items()})
        for name, value in cls.__dict__.items():
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            elif isinstance(value, property):
                value = value.fget
            elif isinstance(value, functools.cached_property):
                value = value.func
            if isinstance(value, FunctionType):
                if not _is_made_by_python(cls, name, value):
                    yield name
                    yield from self._function(value)
            elif not (
                name.startswith("__")
                or isinstance(value, (type, *_DESCRIPTORS))
                or (
                    issubclass(cls, enum.Enum) and (name.startswith("_") or name in cls.__members__)
                )
            ):
                yield name
                yield from self._pieces(value)

    def _object(self, thing: Any) -> Iterable[str]:
        module = type(thing).__module__.partition(".")[0].lstrip("_")
        yield f"object:{module}.{type(thing).__qualname__}"
        yield from self._wrapped(thing)
        if isinstance(thing, BuiltinFunctionType):
            yield thing.__qualname__
        elif isinstance(thing, PurePath):  # whose class has another module in Python 3.13
            yield str(thing)
        elif isinstance(thing, re.Pattern):  # whose repr is cut after 200 characters
            yield from self._pieces((thing.pattern, thing.flags))
        elif isinstance(
            getattr(thing, "__array_interface__", None), dict
        ):  # its repr leaves out the middle
            yield from self._pieces((str(thing.dtype), thing.shape, thing.tolist()))
        elif isinstance(thing, enum.Enum):
            yield thing.name
            yield from self._pieces(type(thing))
        elif dataclasses.is_dataclass(thing):
            for one in dataclasses.fields(thing):
                yield one.name
                yield from self._pieces(getattr(thing, one.name))
            yield from self._pieces(type(thing))
        elif not _is_installed_object(thing) and hasattr(thing, "__dict__"):
            yield from self._class(type(thing))
            yield from self._pieces(vars(thing))
        else:
            text = repr(thing)
            if " at 0x" not in text:
                yield ascii(text)


def _dataclass_settings(cls: type) -> list[Any]:
    """What the methods that `dataclass` writes are made of; their code is no source, and differs between versions."""
    params = getattr(cls, "__dataclass_params__")  # noqa: B009 - no public name
    switches = [
        getattr(params, n) for n in ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
    ]
    missing = dataclasses.MISSING
    fields = [
        [
            *(one.name, one.init, one.repr, one.hash, one.compare, one.kw_only),
            None if one.default is missing else [one.default],
            None if one.default_factory is missing else [one.default_factory],
        ]
        for one in dataclasses.fields(cls)
    ]
    return [switches, fields]


def _is_made_by_python(cls: type, name: str, function: FunctionType) -> bool:
    """Whether a method is one that `dataclass`, `NamedTuple` or `Enum` adds, of the class's fields or members alone."""
    if not (dataclasses.is_dataclass(cls) or issubclass(cls, (tuple, enum.Enum))):
        return False
    file = function.__code__.co_filename
    return name.startswith("_") and (file.startswith("<") or file in _MAKERS)


def _globals_used(code: CodeType, space: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Globals that the code and the functions inside it name, with members of the project's modules.

    By name: the order in which code objects have them differs between Python versions.
    """
    names: set[str] = set()
    waiting = [code]
    while waiting:
        one = waiting.pop()
        names.update(one.co_names)
        waiting.extend(const for const in one.co_consts if isinstance(const, CodeType))
    used: list[tuple[str, Any]] = []
    for name in sorted(names & space.keys()):
        value = space[name]
        used.append((name, value))
        if isinstance(value, ModuleType) and not is_installed(
            getattr(value, "__file__", None) or "<frozen>"
        ):
            members = vars(value)
            used.extend((f"{name}.{n}", members[n]) for n in sorted(names & members.keys()))
    return used


def _is_installed_object(thing: Any) -> bool:
    module = sys.modules.get(type(thing).__module__)
    return module is not None and is_installed(getattr(module, "__file__", None) or "<frozen>")
