"""Imports the project's modules from their source, never from a `.pyc` that only looks as old as it.

Python takes a `.pyc` whose recorded second and length are the source's: of two versions of one length, written within
a second or given one time, the first is run. Stores are keyed by code and files, so what runs has to be what the file
says.
"""

import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import PurePath
from types import CodeType, ModuleType

from flanx.user_code import function_source
from flanx.user_code.project_code import is_installed

_INSTALLED = frozenset(("site-packages", "dist-packages"))


class _Loader(SourceFileLoader):
    """Compiles the source each time, and leaves no `.pyc` behind."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        # The file may be edited while this process goes on; keys hang on the source that runs.
        function_source.remember(path, source)
        return self.source_to_code(source, path)


class _Finder(importlib.abc.MetaPathFinder):
    """Asks the finders behind it; what they find of the project's plain source files gets another loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = sys.meta_path.index(self) if self in sys.meta_path else len(sys.meta_path)
        for finder in sys.meta_path[place + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return _from_source(spec)
        return None


_FINDER = _Finder()


def install() -> None:
    """From here on this process imports the project's modules from their source; what is imported already stays.

    Finders that stand before Python's own, such as import hooks of other libraries, are asked first, as ever.
    """
    if _FINDER in sys.meta_path:
        return
    paths = sys.meta_path.index(PathFinder) if PathFinder in sys.meta_path else len(sys.meta_path)
    sys.meta_path.insert(paths, _FINDER)


def _from_source(spec: ModuleSpec) -> ModuleSpec:
    """The spec, with the loader of this module where a file of the project's would be read by Python's own."""
    if type(spec.loader) is SourceFileLoader and _of_project(spec.name, spec.loader.path):
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
    return spec


def _of_project(name: str, file: str) -> bool:
    """Whether a module's code counts in keys, and may change under one's hands; installed packages are many and do not.

    They may lie in another environment's folder that this one's path names, too.
    """
    if name.startswith(("flanx.tasks.", "flanx.mixtures.")):
        return True
    return not is_installed(file) and _INSTALLED.isdisjoint(PurePath(file).parts)
