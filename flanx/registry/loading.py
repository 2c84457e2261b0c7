"""Which modules to import so that a name is registered."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterable, Sequence

from flanx import named_modules
from flanx.registry import names, table
from flanx.user_code import from_source
from flanx.user_code.importing import import_users

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
    from_source.install()
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
    if not found and not names.known(name):
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
