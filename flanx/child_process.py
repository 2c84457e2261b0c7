"""flanx started again as a child process: this flanx, the user's modules, and the command that the user typed.

A folder named `flanx` in the working directory, such as a clone beside which one works, must not be taken for the
package. So a child starts without the working directory on its path, and takes its parent's import path over once
flanx itself is imported.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import flanx

_IMPORT_PATH = "FLANX_CHILD_IMPORT_PATH"
_COMMAND = "FLANX_CHILD_OF_COMMAND"

# The command that the user typed, in whose name mistakes are told; None before one runs.
typed: ContextVar[str | None] = ContextVar("typed", default=None)


def command(*words: str) -> list[str]:
    """The command line of a child that runs `flanx WORDS`."""
    return [sys.executable, "-P", "-m", "flanx", *words]


def environment() -> dict[str, str]:
    """The environment of such a child: this process's, with its import path and the command typed."""
    path = [os.path.abspath(entry) for entry in sys.path]
    given = {
        **os.environ,
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(entry for entry in path if not _shadows(entry)),
        _IMPORT_PATH: json.dumps(path),
    }
    if name := typed.get():
        given[_COMMAND] = name
    return given


def take_over() -> None:
    """In a child: takes its parent's import path over, and the name of the command typed."""
    path = os.environ.pop(_IMPORT_PATH, None)
    if path is not None:
        sys.path[:] = json.loads(path)
    name = os.environ.pop(_COMMAND, None)
    if name is not None:
        typed.set(name)


def import_from(path: Sequence[str]) -> None:
    """In a child: takes an import path over, as a process pool's initializer."""
    sys.path[:] = path


@contextlib.contextmanager
def signed(name: str) -> Iterator[str]:
    """Runs a command in the name of the one typed, which is this one unless a parent has said another."""
    before = typed.get()
    token = typed.set(before or name)
    try:
        yield before or name
    finally:
        typed.reset(token)


@contextlib.contextmanager
def safe_start(quiet: Sequence[str] = ()) -> Iterator[None]:
    """Python processes started meanwhile import this flanx, whatever lies in the working directory.

    `import_from` gives them the path that they then lack.

    Args:
      quiet: warnings, by how they begin, that these processes do not print.
    """
    warnings = [os.environ.get("PYTHONWARNINGS", ""), *(f"ignore:{text}" for text in quiet)]
    values = {"PYTHONSAFEPATH": "1", "PYTHONWARNINGS": ",".join(filter(None, warnings))}
    before = {name: os.environ.get(name) for name in values}
    path = list(sys.path)
    os.environ.update(values)
    sys.path[:] = [entry for entry in path if not _shadows(os.path.abspath(entry))]
    try:
        yield
    finally:
        sys.path[:] = path
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _shadows(entry: str) -> bool:
    """Whether a folder of the import path has another `flanx` than the one that runs."""
    there = os.path.join(entry, "flanx")
    return os.path.isdir(there) and os.path.realpath(there) not in map(
        os.path.realpath, flanx.__path__
    )
