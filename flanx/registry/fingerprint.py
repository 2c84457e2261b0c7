"""Stable hashes of what decides a task's examples: code, templates and files.

The hash of a function follows everything of the project that it uses: nested functions, constants, default arguments,
closures, decorators, and the helper functions, classes and module constants that it names. Python's own library,
installed packages and flanx's engine count by name alone (`engine_hash` covers what renders). Comments, line numbers,
file paths and PYTHONHASHSEED do not matter.
"""

import dataclasses
import functools
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
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

_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType)  # of slots: no content of their own


def code_hash(*things: Any) -> str:
    """Hex hash of functions and of any values they need."""
    return _Walk().digest(things)


def code_files(*things: Any) -> tuple[str, ...]:
    """The source files of all project code that `code_hash(*things)` reads, sorted."""
    walk = _Walk()
    walk.digest(things)
    return tuple(sorted(file for file in walk.files if not file.startswith("<")))


_file_hashes: dict[
    tuple[str, int, int], str
] = {}  # by path, size and time: a changed file is another


def file_hash(path: str) -> str:
    """SHA-256 of a file's content, kept as long as the file's size and time stand."""
    name = _state(path)
    if name not in _file_hashes:
        with open(path, "rb") as file:
            _file_hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return _file_hashes[name]


def remember_file_hash(path: str, sha256: str) -> None:
    """Spares `file_hash` a file whose checksum is known, so that a mixture is looked through without reading it."""
    _file_hashes[_state(path)] = sha256


def _state(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns


@functools.cache
def engine_hash() -> str:
    """Hash of the code that reads and renders, so that a change in it makes new stores."""
    folder = os.path.dirname(__file__)
    reading = (
        *("sources", "text_files", "json_rows", "parquet_rows", "natural_instructions", "held_out"),
        *("seqio_rows", "field_names", "spec"),
    )
    rendering = (
        *("draws", "exemplars", "few_shot", "options", "rendering", "template", "values"),
        *("texts", "choices", "row_errors"),
    )
    parts = (*reading, *rendering, "fingerprint")
    return code_hash([file_hash(os.path.join(folder, f"{part}.py")) for part in parts])


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
            yield f"{type(thing).__name__}:{thing!r}"
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
        yield f"code:{code.co_code.hex()}"
        yield from code.co_names
        yield from self._pieces(code.co_consts)

    def _function(self, function: FunctionType) -> Iterable[str]:
        if is_foreign(function.__code__.co_filename):
            yield f"foreign:{function.__module__}.{function.__qualname__}"
            yield from self._wrapped(function)
            return
        self.files.add(function.__code__.co_filename)
        yield from self._code(function.__code__)
        yield from self._pieces(function.__defaults__)
        yield from self._pieces(function.__kwdefaults__)
        for cell in function.__closure__ or ():
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
        if module is not None and is_foreign(getattr(module, "__file__", None) or "<frozen>"):
            return
        for base in cls.__bases__:
            yield from self._pieces(base)
        for name, value in cls.__dict__.items():
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            elif isinstance(value, property):
                value = value.fget
            elif isinstance(value, functools.cached_property):
                value = value.func
            if isinstance(value, FunctionType):
                yield name
                yield from self._function(value)
            elif not (name.startswith("__") or isinstance(value, (type, *_DESCRIPTORS))):
                yield name
                yield from self._pieces(value)

    def _object(self, thing: Any) -> Iterable[str]:
        yield f"object:{type(thing).__module__}.{type(thing).__qualname__}"
        yield from self._wrapped(thing)
        if isinstance(thing, BuiltinFunctionType):
            yield thing.__qualname__
        elif dataclasses.is_dataclass(thing):
            for one in dataclasses.fields(thing):
                yield one.name
                yield from self._pieces(getattr(thing, one.name))
            yield from self._pieces(type(thing))
        elif not _is_foreign_object(thing) and hasattr(thing, "__dict__"):
            yield from self._class(type(thing))
            yield from self._pieces(vars(thing))
        else:
            text = repr(thing)
            if " at 0x" not in text:
                yield text


def _globals_used(code: CodeType, space: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Globals that the code and the functions inside it name, with members of the project's modules."""
    names: list[str] = []
    waiting = [code]
    while waiting:
        one = waiting.pop()
        names.extend(one.co_names)
        waiting.extend(const for const in one.co_consts if isinstance(const, CodeType))
    found: list[tuple[str, Any]] = []
    for name in dict.fromkeys(names):
        if name not in space:
            continue
        value = space[name]
        found.append((name, value))
        if isinstance(value, ModuleType) and not is_foreign(
            getattr(value, "__file__", None) or "<frozen>"
        ):
            members = vars(value)
            found.extend((f"{name}.{n}", members[n]) for n in dict.fromkeys(names) if n in members)
    return found


@functools.cache
def _foreign_folders() -> tuple[str, ...]:
    """Of Python itself, and of packages wherever they are installed: a `.pth` file may bring in another place's."""
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"]}
    folders.update(p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages"))
    return tuple(os.path.realpath(folder) + os.sep for folder in sorted(folders))


@functools.cache
def is_foreign(filename: str) -> bool:
    """Whether a file belongs to Python, an installed package or flanx's engine; flanx's tasks never do."""
    if filename.startswith("<frozen"):
        return True
    real = os.path.realpath(filename)
    engine = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))
    if real.startswith(
        tuple(os.path.join(engine, part) + os.sep for part in ("tasks", "mixtures"))
    ):
        return False
    return real.startswith((*_foreign_folders(), engine + os.sep))


def _is_foreign_object(thing: Any) -> bool:
    module = sys.modules.get(type(thing).__module__)
    return module is not None and is_foreign(getattr(module, "__file__", None) or "<frozen>")
