"""One task's split as tokens: a memory-mapped Arrow file and a meta.json, written whole or not at all.

    <folder>/tokens.arrow   one record batch: inputs, targets, example_id, template
                            (and for evaluation inputs_text, targets_text, options)
    <folder>/meta.json      counts, lengths, what was dropped or clipped, checksum, and what the key hashes

The only module that both `flanx.prep` (which writes) and `flanx.data` (which reads) know.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

FORMAT_VERSION = 1
TOKENS = "tokens.arrow"
META = "meta.json"
FEATURES = ("inputs", "targets")
_MAGIC = b"ARROW1"
_SPILL = 1 << 24  # tokens of a feature that are kept in memory while writing


class StoreDamaged(Exception):
    """A store folder that is missing, truncated, altered or another task's. `flanx cache` writes it anew."""


class Example(NamedTuple):
    """One row of a store.

    Attributes:
      inputs, targets: token ids, end-of-sequence included, no longer than the feature lengths.
      example_id: index of the row in its source; stays with the example through packing.
      template: index of the template that rendered it.
      inputs_text: the rendered input (evaluation only, as the next two).
      targets_text: every acceptable answer.
      options: answers to choose from, where the task has them.
    """

    inputs: Sequence[int]
    targets: Sequence[int]
    example_id: int
    template: int = 0
    inputs_text: str | None = None
    targets_text: Sequence[str] = ()
    options: Sequence[str] | None = None


def write(
    folder: str | os.PathLike[str],
    rows: Iterable[Example],
    meta: dict[str, Any],
    *,
    vocabulary_size: int,
    for_eval: bool = False,
) -> dict[str, Any]:
    """Writes a store folder: a temporary folder beside it, synced to disk, then renamed.

    Where another process finished the same folder first, its result stays and this one is dropped.

    Args:
      folder: the store's own folder; its name ends in the key.
      rows: examples, read once; tokens beyond some 16 million a feature wait on disk, not in memory.
      meta: what meta.json holds besides the counts; read after `rows` is exhausted, so that the
        generator of rows may fill it.
      vocabulary_size: decides the token type, uint16 up to 65,536 ids and uint32 above.
      for_eval: keep texts, references and options.

    Returns:
      The whole of meta.json.

    Raises:
      OSError: the disk is full, say; the temporary folder is removed and nothing else is changed.
    """
    final = Path(folder)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f"{temporary_prefix()}{final.name}"
    temporary.mkdir()
    try:
        whole = _fill(temporary, rows, meta, vocabulary_size, for_eval)
        _publish(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return whole


def temporary_prefix() -> str:
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
        if entry.startswith(".tmp-") and _abandoned(Path(parent) / entry):
            left = Path(parent) / entry
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
            removed.append(entry)
    return removed


def _abandoned(folder: Path) -> bool:
    words = folder.name.split("-")
    if (
        len(words) > 3
        and words[1] == _host()
        and words[2].isdecimal()
        and not _alive(int(words[2]))
    ):
        return True
    try:
        files = folder.iterdir() if folder.is_dir() else ()
        touched = [folder.stat().st_mtime, *(path.stat().st_mtime for path in files)]
    except OSError:  # its owner is just renaming it
        return False
    return time.time() - max(touched) > 86_400


def open(folder: str | os.PathLike[str]) -> "TaskStore":
    """Opens a store folder for reading; memory-maps the tokens and checks cheaply that they are whole.

    Raises:
      StoreDamaged: meta.json or tokens.arrow is missing or unreadable, or size, footer, key or count
        of tokens.arrow are not what meta.json says.
    """
    return TaskStore(folder)


def verify(folder: str | os.PathLike[str]) -> None:
    """Reads the whole tokens.arrow and compares its checksum.

    Raises:
      StoreDamaged: the bytes are not those that were written.
    """
    store = TaskStore(folder)
    if file_sha256(store.folder / TOKENS) != store.meta["sha256"]:
        raise StoreDamaged(f"{store.folder / TOKENS}: checksum differs from meta.json")


def looks_whole(folder: str, size: int) -> bool:
    """Whether tokens.arrow has `size` bytes and an Arrow footer's end; a few microseconds."""
    try:
        handle = os.open(os.path.join(folder, TOKENS), os.O_RDONLY)
    except OSError:
        return False
    try:
        if os.fstat(handle).st_size != size or size < len(_MAGIC):
            return False
        return os.pread(handle, len(_MAGIC), size - len(_MAGIC)) == _MAGIC
    finally:
        os.close(handle)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's content."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


class TaskStore:
    """A store folder, memory-mapped. Opening touches lengths and counts, never tokens.

    Attributes:
      folder: where it lies.
      meta: meta.json.
      num_examples: number of rows n.
      input_lengths, target_lengths: np.int32[n], end-of-sequence included.
      example_ids: np.int64[n].
      templates: np.int16[n].
    """

    def __init__(self, folder: str | os.PathLike[str]):
        self.folder = Path(folder)
        self.meta = _read_meta(self.folder)
        path = self.folder / TOKENS
        try:
            if path.stat().st_size != self.meta["bytes"]:
                raise StoreDamaged(
                    f"{path}: {path.stat().st_size} bytes, but meta.json says {self.meta['bytes']}"
                )
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            label = (reader.schema.metadata or {}).get(b"flanx", b"").decode()
            batch = reader.get_batch(0)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise StoreDamaged(f"{path}: {error}") from error
        if label != _label(self.meta):
            raise StoreDamaged(f"{path}: is '{label}', but meta.json is of '{_label(self.meta)}'")
        if batch.num_rows != self.meta["examples"]:
            raise StoreDamaged(
                f"{path}: {batch.num_rows} examples, but meta.json says {self.meta['examples']}"
            )
        self._batch = batch
        self.num_examples: int = batch.num_rows
        self._features = {name: _flat(batch.column(name)) for name in FEATURES}
        for name, (values, _) in self._features.items():
            if len(values) != self.meta["tokens"][name]:
                raise StoreDamaged(
                    f"{path}: {len(values)} tokens of {name}, but meta.json says "
                    f"{self.meta['tokens'][name]}"
                )
        self.input_lengths = np.diff(self._features["inputs"][1]).astype(np.int32)
        self.target_lengths = np.diff(self._features["targets"][1]).astype(np.int32)
        self.example_ids: np.ndarray = batch.column("example_id").to_numpy()
        self.templates: np.ndarray = batch.column("template").to_numpy()

    def feature(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Every token of "inputs" or "targets": flat values and offsets np.int64[n + 1], both views."""
        return self._features[name]

    def inputs(self, i: int) -> np.ndarray:
        """Input ids of row i, a view (uint16 or uint32)."""
        values, offsets = self._features["inputs"]
        return values[offsets[i] : offsets[i + 1]]

    def targets(self, i: int) -> np.ndarray:
        """Target ids of row i, a view (uint16 or uint32)."""
        values, offsets = self._features["targets"]
        return values[offsets[i] : offsets[i + 1]]

    @property
    def has_text(self) -> bool:
        """Whether the evaluation columns are there."""
        return "inputs_text" in self._batch.schema.names

    def inputs_text(self, i: int) -> str:
        """The rendered input of row i (evaluation stores only)."""
        return self._text("inputs_text", i)

    def references(self, i: int) -> list[str]:
        """Every acceptable answer of row i (evaluation stores only)."""
        return self._text("targets_text", i)

    def options(self, i: int) -> list[str] | None:
        """The answers that row i chooses from, or None (evaluation stores only)."""
        return self._text("options", i)

    def _text(self, column: str, i: int) -> Any:
        if not self.has_text:
            raise ValueError(f"{self.folder} was cached for training: it has no column '{column}'")
        return self._batch.column(column)[i].as_py()


class _Column:
    """A growing list column: flat tokens (on disk beyond `_SPILL`) and row lengths."""

    def __init__(self, spill: Path, dtype: type[np.unsignedinteger]):
        self._dtype = np.dtype(dtype)
        self._values = array("H" if self._dtype.itemsize == 2 else "I")
        self._lengths = array("i")
        self._spill = spill
        self._file: BinaryIO | None = None

    def append(self, tokens: Sequence[int]) -> None:
        self._values.extend(tokens)
        self._lengths.append(len(tokens))
        if len(self._values) >= _SPILL:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            self._file = self._spill.open("wb")
        self._values.tofile(self._file)
        del self._values[:]

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Values and lengths (int32) of everything appended."""
        lengths = np.frombuffer(self._lengths, np.int32) if self._lengths else np.zeros(0, np.int32)
        if self._file is not None:
            self._flush()
            self._file.close()
            return np.memmap(self._spill, self._dtype, mode="r"), lengths
        values = np.frombuffer(self._values, self._dtype) if self._values else None
        return np.zeros(0, self._dtype) if values is None else values, lengths


def _fill(
    folder: Path,
    rows: Iterable[Example],
    meta: dict[str, Any],
    vocabulary_size: int,
    for_eval: bool,
) -> dict[str, Any]:
    """Writes both files into `folder`, synced; returns meta.json."""
    dtype = np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
    features = {name: _Column(folder / f"{name}.spill", dtype) for name in FEATURES}
    example_ids, templates = array("q"), array("h")
    texts: list[str | None] = []
    references: list[list[str]] = []
    options: list[list[str] | None] = []
    for row in rows:
        features["inputs"].append(row.inputs)
        features["targets"].append(row.targets)
        example_ids.append(row.example_id)
        templates.append(row.template)
        if for_eval:
            texts.append(row.inputs_text)
            references.append(list(row.targets_text))
            options.append(None if row.options is None else list(row.options))
    columns: dict[str, pa.Array] = {}
    statistics: dict[str, dict[str, Any]] = {}
    tokens: dict[str, int] = {}
    content = hashlib.blake2b(digest_size=16)
    for name, column in features.items():
        values, lengths = column.finish()
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        content.update(lengths.tobytes())
        content.update(np.ascontiguousarray(values).data.cast("B"))
        columns[name] = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))
        statistics[name] = length_statistics(lengths)
        tokens[name] = int(offsets[-1])
    columns["example_id"] = pa.array(np.frombuffer(example_ids, np.int64))
    columns["template"] = pa.array(np.frombuffer(templates, np.int16))
    if for_eval:
        columns["inputs_text"] = pa.array(texts, pa.large_string())
        columns["targets_text"] = pa.array(references, pa.large_list(pa.large_string()))
        columns["options"] = pa.array(options, pa.large_list(pa.large_string()))
    _write_arrow(folder / TOKENS, columns, _label(meta))
    for name in FEATURES:
        (folder / f"{name}.spill").unlink(missing_ok=True)
    whole = {
        **meta,
        "format_version": FORMAT_VERSION,
        "examples": len(example_ids),
        "tokens": tokens,
        "lengths": statistics,
        "token_type": np.dtype(dtype).name,
        "bytes": (folder / TOKENS).stat().st_size,
        "sha256": file_sha256(folder / TOKENS),
        "content": content.hexdigest(),
    }
    with (folder / META).open("w") as handle:
        json.dump(whole, handle, indent=1, sort_keys=True)
        handle.flush()
        os.fsync(handle.fileno())
    return whole


def length_statistics(lengths: np.ndarray) -> dict[str, Any]:
    """Least, mean and most, and a histogram: `{"16": k}` counts the k lengths in 9..16."""
    if not len(lengths):
        return {"min": 0, "mean": 0.0, "max": 0, "histogram": {}}
    upper = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    bins, counts = np.unique(upper, return_counts=True)
    return {
        "min": int(lengths.min()),
        "mean": round(float(lengths.mean()), 2),
        "max": int(lengths.max()),
        "histogram": {str(b): int(c) for b, c in zip(bins, counts, strict=True)},
    }


def _write_arrow(path: Path, columns: Mapping[str, pa.Array], label: str) -> None:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    schema = batch.schema.with_metadata({"flanx": label})
    with path.open("wb") as handle:
        with pa.ipc.new_file(handle, schema) as writer:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
        handle.flush()
        os.fsync(handle.fileno())


def _publish(temporary: Path, final: Path) -> None:
    """Renames `temporary` to `final`; a whole store that is already there wins, a damaged one is replaced."""
    for _ in range(3):
        try:
            temporary.rename(final)
            break
        except OSError:
            if not final.is_dir():
                raise
        try:
            TaskStore(final)
        except StoreDamaged:
            broken = final.parent / f"{temporary_prefix()}damaged"
            final.rename(broken)
            shutil.rmtree(broken, ignore_errors=True)
        else:
            shutil.rmtree(temporary, ignore_errors=True)
            return
    else:
        raise OSError(f"{final} is damaged and cannot be replaced")
    handle = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    try:
        meta = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise StoreDamaged(f"{path}: no such file") from error
    except ValueError as error:
        raise StoreDamaged(f"{path}: {error}") from error
    needed = ("format_version", "examples", "tokens", "bytes", "sha256", "content")
    missing = [name for name in needed if not isinstance(meta, dict) or name not in meta]
    if missing:
        raise StoreDamaged(f"{path}: '{missing[0]}' is missing")
    if meta["format_version"] != FORMAT_VERSION:
        raise StoreDamaged(f"{path}: format version {meta['format_version']}, not {FORMAT_VERSION}")
    return meta


def _label(meta: Mapping[str, Any]) -> str:
    """What the Arrow file says it is, so that a file from another store is told."""
    return f"{meta.get('task', '')} {meta.get('split', '')} {meta.get('key', '')}".strip()


def _flat(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    offsets = column.offsets.to_numpy(zero_copy_only=True)
    return column.values.to_numpy(zero_copy_only=True), offsets


def _listing(folder: str | os.PathLike[str]) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _host() -> str:
    return "".join(c for c in os.uname().nodename if c.isalnum())[:32] or "host"


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # in a container without an init process, the dead stay in the table as zombies
        status = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
