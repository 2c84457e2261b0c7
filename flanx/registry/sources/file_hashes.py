"""Checksums of data files, each read once."""

import hashlib
import os

_hashes: dict[tuple[str, int, int], str] = {}  # by path, size and time: a changed file is another


def file_hash(path: str) -> str:
    """SHA-256 of a file's content, kept as long as the file's size and time stand."""
    name = _state(path)
    if name not in _hashes:
        with open(path, "rb") as file:
            _hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return _hashes[name]


def remember_file_hash(path: str, sha256: str) -> None:
    """Spares `file_hash` a file whose checksum is known, so that a mixture is looked through without reading it."""
    _hashes[_state(path)] = sha256


def _state(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_size, status.st_mtime_ns
