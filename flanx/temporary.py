"""Temporary files and folders beside what they become: named by their process, so that the dead's can be told."""

import os
import shutil
import time
import uuid
from pathlib import Path


def prefix() -> str:
    """How a temporary folder of this process begins: `.tmp-<host>-<process id>-<random>-`."""
    return f".tmp-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}-"


def sweep(parent: str | os.PathLike[str]) -> list[str]:
    """Removes temporary folders and files that killed processes left in `parent`.

    Those of this host go as soon as their process is dead, any other when nothing was written to it for a day.

    Returns:
      The names removed.
    """
    removed = []
    for entry in _listing(parent):
        if entry.startswith(".tmp-") and abandoned(Path(parent) / entry):
            left = Path(parent) / entry
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
            removed.append(entry)
    return removed


def abandoned(folder: Path) -> bool:
    """Whether a temporary folder's process is dead or, on another host, has written nothing to it for a day."""
    words = folder.name.split("-")
    if len(words) > 3 and words[1] == _host() and words[2].isdecimal() and not alive(int(words[2])):
        return True
    try:
        files = folder.iterdir() if folder.is_dir() else ()
        touched = [folder.stat().st_mtime, *(path.stat().st_mtime for path in files)]
    except OSError:  # its owner is just renaming it
        return False
    return time.time() - max(touched) > 86_400


def _listing(folder: str | os.PathLike[str]) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _host() -> str:
    return "".join(c for c in os.uname().nodename if c.isalnum())[:32] or "host"


def alive(process: int) -> bool:
    """Whether a process of this machine (and container) runs; one that is dead and not yet collected does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # In a container without an init process, the dead stay in the table as zombies.
    fields = _stat(process)
    return not fields or fields[0] not in ("Z", "X")


def started(process: int) -> str:
    """When a process began, in ticks since the machine did; empty where that is not known."""
    fields = _stat(process)
    return fields[19] if len(fields) > 19 else ""


def _stat(process: int) -> list[str]:
    """What the kernel tells of a process, from its state on; empty where it tells nothing."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
