"""An exception in one line, with the line of the user's own code that raised it."""

import os
import traceback

from flanx.user_code.project_code import is_installed

_MOST_CHARACTERS = 300


def user_line(error: BaseException) -> str | None:
    """`file:line` in the user's own code that the exception came through last; None where it did not."""
    frames = traceback.extract_tb(error.__traceback__)
    # Names in angle brackets are of code without a file, as dataclasses write it.
    own = [f for f in frames if not f.filename.startswith("<") and not is_installed(f.filename)]
    return f"{short_path(own[-1].filename)}:{own[-1].lineno}" if own else None


def in_words(error: BaseException) -> str:
    """An exception in one line: its type, its message, and the user's line that raised it."""
    text = " ".join(str(error)[: 4 * _MOST_CHARACTERS].split())[:_MOST_CHARACTERS]
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    line = user_line(error)
    return f"{said}, {line}" if line else said


def short_path(path: str) -> str:
    """The path from the working directory where it lies below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative
