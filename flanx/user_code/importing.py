"""Importing a module that the user named, with every failure told in one line."""

import importlib
import inspect
import os
import pkgutil
import re
import shlex
import sys
from types import ModuleType

import flanx
from flanx.errors import UserError, did_you_mean
from flanx.user_code import from_source
from flanx.user_code.error_lines import in_words, short_path, user_line
from flanx.user_code.project_code import is_installed


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
    if os.sep in module or module.endswith(".py"):
        raise UserError(f"{asked}: {_instead_of_path(module)}")
    from_source.install()
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise UserError(f"{asked}: {_failure(error)}") from error
        own = [entry for entry in sys.path if not is_installed(os.path.join(entry, "any.py"))]
        there = [one.name for one in pkgutil.iter_modules([os.getcwd(), *own])]
        raise UserError(
            f"{asked}: no such module in {os.getcwd()}, on PYTHONPATH or installed{did_you_mean(module, there)}"
        ) from None
    except UserError as error:
        line = user_line(error)
        raise UserError(f"{asked}: {_placed(str(error), line)}") from error
    except SyntaxError as error:
        at = f"{short_path(error.filename)}:{error.lineno}: " if error.filename else ""
        raise UserError(f"{asked}: {at}{type(error).__name__}: {error.msg}") from error
    except SystemExit as ended:
        line = user_line(ended)
        raise UserError(
            f"{asked}: the module ends the program{f', {line}' if line else ''}"
        ) from ended
    except Exception as error:
        raise UserError(f"{asked}: {_failure(error)}") from error


def _placed(message: str, line: str | None) -> str:
    """A message that says where, unless it does already."""
    if line is None or os.path.basename(line.rpartition(":")[0]) in message:
        return message
    return f"{message}, {line}"


def _instead_of_path(path: str) -> str:
    """What to say of a file where a module's name is wanted: the name, and its folder if Python does not look there."""
    folder, name = os.path.split(os.path.normpath(path))
    name = name.removesuffix(".py")
    if os.path.isabs(folder) or folder.startswith(os.pardir):
        where = f", with {shlex.quote(folder)} on PYTHONPATH"
    else:
        name, where = ".".join([*filter(None, folder.split(os.sep)), name]), ""
    return f"a module is named as in Python, not by its file: write {name}{where}"


def _failure(error: Exception) -> str:
    """What a module of the user's fails with as it is imported, and where; of flanx's own names the nearest."""
    wanted = re.match(r"cannot import name '(\w+)' from '(flanx(?:\.\w+)*)'", str(error))
    if isinstance(error, ImportError) and wanted:
        try:
            getattr(sys.modules[wanted[2]], wanted[1])
        except AttributeError as missing:
            return in_words(missing.with_traceback(error.__traceback__))
    argument = re.match(
        r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'", str(error)
    )
    if argument and callable(ours := getattr(flanx, argument[1], None)):
        known = list(inspect.signature(ours).parameters)
        text = (
            f"flanx.{argument[1]} has no argument '{argument[2]}'{did_you_mean(argument[2], known)}"
        )
        line = user_line(error)
        return f"{text}, {line}" if line else text
    return in_words(error)
