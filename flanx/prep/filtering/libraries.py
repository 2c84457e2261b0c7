"""The optional libraries that filters need, and what to say where one is missing."""

import importlib
import importlib.metadata
from types import ModuleType

from flanx.errors import UserError


def load(module: str, filter_name: str) -> ModuleType:
    """Imports `module`, which the extra `filters` installs.

    Raises:
      UserError: it is not installed; names the filter and the command that fixes it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(
            f"filter {filter_name} needs {module}, which is not installed: "
            'pip install "flanx[filters]"'
        ) from None


def version(module: str) -> str:
    """The installed version, which counts in the keys of what was made with it."""
    return importlib.metadata.version(module)
