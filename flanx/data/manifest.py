"""A mixture resolved: which stores to read, at which rates, and whether they still stand for their sources."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flanx
from flanx import atomic_files
from flanx.data import store
from flanx.data.request import StoreRequest

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Entry:
    """One task of a mixture.

    Attributes:
      task: task name.
      dataset: dataset name, the task's without its template type.
      type: template type ("zs_opt", ...), or "" for a bare SeqIO task.
      category: the dataset's category, or "".
      path: store folder, relative to the cache folder.
      examples: rows in the store.
      rate: mixing weight; an entry's share is its rate over the sum of rates.
      tokens: number of tokens of each feature.
      store_bytes: size of its tokens.arrow.
      content: hash of the tokens themselves, the same wherever and whenever they were made.
      metrics: metric functions, as "module:name".
      postprocessor: postprocessing function as "module:name", or None.
      dropped: rows that did not reach the store, by reason.
      clipped: examples of which a feature was cut to its length, by feature.
    """

    task: str
    dataset: str
    type: str
    category: str
    path: str
    examples: int
    rate: float
    tokens: Mapping[str, int]
    store_bytes: int = 0
    content: str = ""
    metrics: tuple[str, ...] = ()
    postprocessor: str | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)
    clipped: Mapping[str, int] = field(default_factory=dict)

    def open(self, cache_dir: str | os.PathLike[str]) -> store.TaskStore:
        """Opens this entry's store.

        Raises:
          flanx.data.store.StoreDamaged: it is not what `flanx cache` wrote.
        """
        try:
            return store.open(Path(cache_dir).expanduser() / self.path)
        except store.StoreDamaged as damage:
            raise store.StoreDamaged(
                f"{damage}; run 'flanx cache' again, with --verify"
            ) from damage


@dataclass(frozen=True)
class Manifest:
    """Everything that a loader or evaluator has to know of a cached mixture.

    Attributes:
      mixture, split: as requested.
      request: the request, as JSON.
      feature_lengths: most tokens of each feature.
      vocabulary: {"spec", "fingerprint", "size"} that the tokens were made with.
      entries: tasks with at least one example, in the order of the mixture.
      inputs: every code and data file that the result depends on, and folders whose new files it would depend on:
        {"path", "size", "mtime_ns", "sha256"}.
      left_out: tasks that no example is left of: rows dropped, by reason.
      unread: what only caching again would read: stores without an example, those that filters took the entries from,
        and the filters' own files.
      plan: fingerprint of what the registry made of the request, by `flanx.prep.registered`; "" for a manifest that
        `flanx cache` has not made, which is compared with nothing.
      tensorflow: whether it takes TensorFlow to ask the registry, as for bare SeqIO tasks.
      versions: of flanx's parts that made it, by `flanx.prep.versions`.
      flanx_version, format_version: what wrote it.
    """

    mixture: str
    split: str
    request: Mapping[str, Any]
    feature_lengths: Mapping[str, int]
    vocabulary: Mapping[str, Any]
    entries: tuple[Entry, ...]
    inputs: Sequence[Mapping[str, Any]]
    unread: Sequence[str] = field(default_factory=list)
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    plan: str = ""
    tensorflow: bool = False
    versions: Mapping[str, int] = field(default_factory=dict)
    flanx_version: str = flanx.__version__
    format_version: int = FORMAT_VERSION

    @property
    def fingerprint(self) -> str:
        """16 hex digits over what decides the stream of examples: tasks, their tokens and rates."""
        parts = [(e.task, e.content, e.examples, e.rate) for e in self.entries]
        canonical = json.dumps([parts, dict(self.vocabulary)["fingerprint"]])
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    @property
    def num_examples(self) -> int:
        """Examples of all entries."""
        return sum(entry.examples for entry in self.entries)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the manifest as JSON: a temporary file beside `path`, synced, then renamed."""
        atomic_files.write(path, json.dumps(_fields(self), separators=(",", ":")), sync=True)


def _fields(manifest: Manifest) -> dict[str, Any]:
    """As `dataclasses.asdict`, without copies of what thousands of entries hold."""
    return {**vars(manifest), "entries": [vars(entry) for entry in manifest.entries]}


def load(path: str | os.PathLike[str]) -> Manifest:
    """Reads what `Manifest.save` wrote.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is not a manifest, or one of another format version.
    """
    content = Path(path).read_bytes()
    try:
        fields = json.loads(content)
        if fields["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {fields['format_version']}")
        entries = tuple(
            Entry(**{**entry, "metrics": tuple(entry["metrics"])})
            for entry in fields.pop("entries")
        )
        return Manifest(**fields, entries=entries)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is not a manifest of this flanx ({error})") from error


def whole(request: StoreRequest) -> Manifest | None:
    """The request's manifest if no file says that it is stale, else None; the registry is not asked.

    The manifest is there, written by this version; every file that the result depends on has its size and time of
    change, or else its checksum; and every store has its size and its Arrow footer.
    """
    try:
        manifest = load(request.manifest_path)
    except (OSError, ValueError):
        return None
    if manifest.flanx_version != flanx.__version__:
        return None
    if not all(map(unchanged, manifest.inputs)):
        return None
    root = os.path.expanduser(request.cache_dir)
    for entry in manifest.entries:
        if not store.looks_whole(os.path.join(root, entry.path), entry.store_bytes):
            return None
    return manifest


def record_of(path: str) -> dict[str, Any]:
    """An `inputs` record: a file's size, time of change and checksum; of a folder, those of its list of names."""
    found = os.stat(path)
    size = len(os.listdir(path)) if os.path.isdir(path) else found.st_size
    return {"path": path, "size": size, "mtime_ns": found.st_mtime_ns, "sha256": _checksum(path)}


def unchanged(record: Mapping[str, Any]) -> bool:
    """Whether a file or folder is as `record_of` found it: by time of change and size, else by checksum."""
    path = record["path"]
    try:
        found = os.stat(path)
        if found.st_mtime_ns == record["mtime_ns"]:
            return os.path.isdir(path) or found.st_size == record["size"]
        if not os.path.isdir(path) and found.st_size != record["size"]:
            return False
        return _checksum(path) == record["sha256"]
    except OSError:
        return False


def _checksum(path: str) -> str:
    if os.path.isdir(path):
        return hashlib.sha256("\0".join(sorted(os.listdir(path))).encode()).hexdigest()
    return store.file_sha256(path)
