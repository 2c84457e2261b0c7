"""The files that a result depends on, with their checksums: how a stale manifest is told."""

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flanx.data.manifest import record_of, unchanged


class Inputs:
    """Records of files and folders; each is read once, or not at all where an earlier record still holds.

    Args:
      earlier: records of manifests on disk; their checksum is taken over where size and time of change agree.
    """

    def __init__(self, earlier: Iterable[Mapping[str, Any]] = ()):
        self._earlier = {record["path"]: dict(record) for record in earlier}
        self._records: dict[str, dict[str, Any]] = {}

    def add(self, paths: Iterable[str]) -> None:
        """Takes down the present state of files and folders that were not seen before."""
        fresh = [path for path in _local(paths) if path not in self._records]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            for record in threads.map(self._record, fresh):
                self._records[record["path"]] = record

    def records(self, paths: Iterable[str]) -> list[dict[str, Any]]:
        """Records of paths that were added, sorted by path."""
        return [self._records[path] for path in sorted(_local(paths))]

    def _record(self, path: str) -> dict[str, Any]:
        earlier = self._earlier.get(path)
        touched = earlier is None or os.stat(path).st_mtime_ns != earlier["mtime_ns"]
        if earlier is None or touched or not unchanged(earlier):
            return record_of(path)
        return earlier


def _local(paths: Iterable[str]) -> list[str]:
    """Absolute paths, each once; addresses (`gs://...`) cannot be watched and are left out."""
    return list(dict.fromkeys(os.path.abspath(path) for path in paths if "://" not in path))
