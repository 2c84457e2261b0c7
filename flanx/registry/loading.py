"""Which modules to import so that a name is registered."""

import importlib
import importlib.util
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Sequence
from types import ModuleType

from flanx import named_modules
from flanx.errors import UserError
from flanx.registry import table
from flanx.registry.row_errors import in_words

PACKAGES = ("flanx.tasks", "flanx.mixtures")


def load_for(name: str, imports: Sequence[str] = ()) -> None:
    """Imports the modules that could define `name`, a mixture, dataset, task or glob.

    First the user's own, then `flanx.tasks.<first part>` and `flanx.mixtures.<first part>`; where no such module
    exists and `name` is unknown still, every module of the two packages. The parts of a mixture are loaded with it.

    Args:
      name: what is wanted.
      imports: modules of the user's that register tasks, as `--import` names them.

    Raises:
      UserError: a module of `imports` does not exist.
    """
    named_modules.name(imports)
    for module in imports:
        import_users(module, f"--import {module}")
    _load(name, set())


def _load(name: str, done: set[str]) -> None:
    if name in done:
        return
    done.add(name)
    first = name.partition(".")[0]
    found = False
    if first.isidentifier():
        for package in PACKAGES:
            if importlib.util.find_spec(f"{package}.{first}") is not None:
                importlib.import_module(f"{package}.{first}")
                found = True
    from flanx.registry import selection

    if not found and not selection.known(name):
        for module in _modules():
            importlib.import_module(module)
    for mixture in list(table.mixtures().values()):
        if mixture.name == name:
            for part in mixture.parts:
                _load(part.pattern, done)


def _modules() -> Iterable[str]:
    """Modules of the two packages, those named with a leading underscore left out."""
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            continue
        path = importlib.import_module(package).__path__
        for module in pkgutil.iter_modules(path):
            if not module.name.startswith("_"):
                yield f"{package}.{module.name}"


def import_users(module: str, asked: str) -> ModuleType:
    """Imports a module of the user's, which may lie in the working directory.

    Args:
      module: its name.
      asked: where the user names it, for the message.

    Raises:
      UserError: there is no such module, or it fails as it is imported; the message names its line.
    """
    # The `flanx` script does not have the working directory on its path, as `python -m` and scripts have it.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise UserError(f"{asked}: {_failure(error)}") from error
        raise UserError(
            f"{asked}: no such module; it must be in the working directory, on PYTHONPATH or installed"
        ) from None
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{asked}: {_failure(error)}") from error


def _failure(error: Exception) -> str:
    """What a module of the user's fails with as it is imported, and where; of flanx's own names the nearest."""
    wanted = re.match(r"cannot import name '(\w+)' from '(flanx(?:\.\w+)*)'", str(error))
    if isinstance(error, ImportError) and wanted:
        try:
            getattr(sys.modules[wanted[2]], wanted[1])
        except AttributeError as missing:
            return in_words(missing.with_traceback(error.__traceback__))
    return in_words(error)
