"""Model files as they lie on a disk or in a bucket."""

import os
from pathlib import Path

from flanx.errors import UserError

_POINTER = b"version https://git-lfs"


def content_of(path: str) -> bytes:
    """All bytes of a file."""
    if "://" in path:
        from etils import epath

        return epath.Path(path).read_bytes()
    return Path(path).read_bytes()


def model_of(spec: str, path: str) -> bytes:
    """All bytes of a vocabulary's model.

    Raises:
      UserError: Git has left a pointer to it.
    """
    content = content_of(path)
    if content.startswith(_POINTER):
        raise UserError(
            f"vocabulary '{spec}': {path} is a pointer of Git LFS, not the file itself: run 'git lfs pull' there, or "
            "fetch the file"
        )
    return content


def first_byte(path: str) -> bytes:
    """The first byte of a file; empty where it has none."""
    if "://" in path:
        from etils import epath

        with epath.Path(path).open("rb") as file:
            return file.read(1)
    with open(path, "rb") as file:
        return file.read(1)


def version_of(paths: tuple[str, ...]) -> tuple[int | None, ...]:
    """When each local file was last written, None for one that is not there; 0 for those in a bucket."""
    return tuple(_written(path) for path in paths)


def _written(path: str) -> int | None:
    if "://" in path:
        return 0
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None
