"""One task's split as tokens: a memory-mapped Arrow file and a meta.json, written whole or not at all.

    <folder>/tokens.arrow   one record batch: inputs, targets, example_id, template
                            (and for evaluation inputs_text, targets_text, options)
    <folder>/meta.json      counts, lengths, what was dropped or clipped, checksum, and what the key hashes

The only module that both `flanx.prep` (which writes) and `flanx.data` (which reads) know.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from flanx import temporary as temporaries
from flanx.errors import UserError

FORMAT_VERSION = 2
TOKENS = "tokens.arrow"
META = "meta.json"
FEATURES = ("inputs", "targets")
TEXTS = ("inputs_text", "targets_text", "options")
_MAGIC = b"ARROW1"
_SPILL = 1 << 24  # tokens of a feature that are kept in memory while writing


class StoreDamaged(UserError):
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
    rows: Iterable["Example | TaskStore"],
    meta: dict[str, Any],
    *,
    vocabulary_size: int,
    for_eval: bool = False,
) -> dict[str, Any]:
    """Writes a store folder: a temporary folder beside it, synced to disk, then renamed.

    Where another process finished the same folder first, its result stays and this one is dropped.

    Args:
      folder: the store's own folder; its name ends in the key.
      rows: examples, read once; tokens beyond some 16 million a feature wait on disk, not in memory. A store among
        them stands for all of its rows, which are copied as they lie.
      meta: what meta.json holds besides the counts; read after `rows` is exhausted, so that the
        generator of rows may fill it.
      vocabulary_size: decides the token type, uint16 up to 65,536 ids and uint32 above.
      for_eval: keep texts, references and options.

    Returns:
      The whole of meta.json.

    Raises:
      OSError: the disk is full, say; the temporary folder is removed and nothing else is changed.
    """
    made = draft(folder, rows, meta, vocabulary_size=vocabulary_size, for_eval=for_eval)
    made.publish()
    return made.meta


def draft(
    folder: str | os.PathLike[str],
    rows: Iterable["Example | TaskStore"],
    meta: dict[str, Any],
    *,
    vocabulary_size: int,
    for_eval: bool = False,
) -> "Draft":
    """`write` without its last step, waiting for the disk, which another thread may do."""
    final = Path(folder)
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = final.parent / f"{temporaries.prefix()}{final.name}"
    temporary.mkdir()
    try:
        return Draft(final, temporary, _fill(temporary, rows, meta, vocabulary_size, for_eval))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


class Draft:
    """A store that is written, but not in its place yet.

    Attributes:
      meta: the whole of meta.json.
    """

    def __init__(self, final: Path, temporary: Path, meta: dict[str, Any]):
        self.meta = meta
        self._final = final
        self._temporary = temporary

    def publish(self) -> None:
        """Waits until the disk has both files, and renames the folder; raises OSError as `write`.

        The renaming itself is not waited for: a store that a power cut takes away is made again.
        """
        try:
            for name in (TOKENS, META):
                _sync(self._temporary / name)
            _publish(self._temporary, self._final)
        except BaseException:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise


def open(folder: str | os.PathLike[str]) -> "TaskStore":
    """Opens a store folder for reading; memory-maps the tokens and checks cheaply that they are whole.

    A tokens.arrow that was written to after its meta.json is read and compared with its checksum: a copied store, or
    one that somebody changed.

    Raises:
      StoreDamaged: meta.json or tokens.arrow is missing or unreadable, or size, footer, key, count or, where it is
        newer, checksum of tokens.arrow are not what meta.json says.
    """
    return TaskStore(folder)


def verify(folder: str | os.PathLike[str]) -> None:
    """Reads the whole tokens.arrow and compares its checksum, before Arrow reads what may be damaged; then as `open`.

    Raises:
      StoreDamaged: the bytes are not those that were written, or as `open`.
    """
    _compare_checksum(Path(folder), _read_meta(Path(folder)))
    TaskStore(folder)


def looks_whole(folder: str, size: int) -> bool:
    """Whether tokens.arrow has `size` bytes and an Arrow footer's end, and meta.json its end; a few microseconds.

    A tokens.arrow that is newer than its meta.json is read and compared with its checksum.
    """
    try:
        handle = os.open(os.path.join(folder, TOKENS), os.O_RDONLY)
    except OSError:
        return False
    try:
        found = os.fstat(handle)
        if found.st_size != size or size < len(_MAGIC):
            return False
        if os.pread(handle, len(_MAGIC), size - len(_MAGIC)) != _MAGIC:
            return False
        with Path(folder, META).open("rb", buffering=0) as meta:
            meta.seek(-1, os.SEEK_END)  # an OSError where it is empty
            if meta.read(1) != b"}":
                return False
            described = os.fstat(meta.fileno()).st_mtime_ns
        if found.st_mtime_ns > described:
            TaskStore(folder)
    except (OSError, StoreDamaged):
        return False
    finally:
        os.close(handle)
    return True


def _compare_checksum(folder: Path, meta: Mapping[str, Any]) -> None:
    path = folder / TOKENS
    try:
        found = file_sha256(path)
    except OSError as error:
        raise StoreDamaged(f"{path}: {error.strerror}") from error
    if found != meta["sha256"]:
        raise StoreDamaged(f"{path}: checksum differs from meta.json")


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
            found = path.stat()
            if found.st_size != self.meta["bytes"]:
                raise StoreDamaged(
                    f"{path}: {found.st_size} bytes, but meta.json says {self.meta['bytes']}"
                )
            if found.st_mtime_ns > (self.folder / META).stat().st_mtime_ns:
                _compare_checksum(self.folder, self.meta)
                with contextlib.suppress(
                    OSError
                ):  # whoever may write to the folder looks only once
                    os.utime(self.folder / META)
            # As a buffer: of a file, Arrow has the footer read by a pool of threads, and waits for it.
            reader = pa.ipc.open_file(pa.memory_map(str(path)).read_buffer())
            label = (reader.schema.metadata or {}).get(b"flanx", b"").decode()
            batch = reader.get_batch(0)
            batch.validate()  # buffers that are too short for what the header says; no value is read
            self._features = {name: _flat(batch.column(name)) for name in FEATURES}
            self.example_ids: np.ndarray = batch.column("example_id").to_numpy()
            self.templates: np.ndarray = batch.column("template").to_numpy()
        except (OSError, pa.ArrowException, ValueError, KeyError, AttributeError) as error:
            raise StoreDamaged(f"{path}: {error}") from error
        if label != _label(self.meta):
            raise StoreDamaged(f"{path}: is '{label}', but meta.json is of '{_label(self.meta)}'")
        if batch.num_rows != self.meta["examples"]:
            raise StoreDamaged(
                f"{path}: {batch.num_rows} examples, but meta.json says {self.meta['examples']}"
            )
        self._batch = batch
        self.num_examples: int = batch.num_rows
        for name, (values, _) in self._features.items():
            if len(values) != self.meta["tokens"][name]:
                raise StoreDamaged(
                    f"{path}: {len(values)} tokens of {name}, but meta.json says "
                    f"{self.meta['tokens'][name]}"
                )

    @functools.cached_property
    def input_lengths(self) -> np.ndarray:
        return np.diff(self._features["inputs"][1]).astype(np.int32)

    @functools.cached_property
    def target_lengths(self) -> np.ndarray:
        return np.diff(self._features["targets"][1]).astype(np.int32)

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

    def rows(self) -> Iterator[Example]:
        """Every row as it was written."""
        whole = self.texts() if self.has_text else {}
        for i in range(self.num_examples):
            tokens = (self.inputs(i).tolist(), self.targets(i).tolist())
            place = (int(self.example_ids[i]), int(self.templates[i]))
            if whole:
                yield Example(*tokens, *place, *(whole[name][i] for name in TEXTS))
            else:
                yield Example(*tokens, *place)

    def texts(self) -> dict[str, list[Any]]:
        """The evaluation columns as lists (evaluation stores only)."""
        return {name: self._batch.column(name).to_pylist() for name in TEXTS}

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

    def extend(self, values: np.ndarray, lengths: np.ndarray) -> None:
        """Many rows, as flat tokens and int32 lengths."""
        if values.dtype != self._dtype:
            raise ValueError(f"tokens of type {values.dtype}, not {self._dtype}")
        self._values.frombytes(np.ascontiguousarray(values).view(np.uint8).data)
        self._lengths.frombytes(np.ascontiguousarray(lengths, np.int32).view(np.uint8).data)
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
    rows: Iterable[Example | TaskStore],
    meta: dict[str, Any],
    vocabulary_size: int,
    for_eval: bool,
) -> dict[str, Any]:
    """Writes both files into `folder`; returns meta.json."""
    dtype = np.uint16 if vocabulary_size <= 1 << 16 else np.uint32
    features = {name: _Column(folder / f"{name}.spill", dtype) for name in FEATURES}
    example_ids, templates = array("q"), array("h")
    texts: list[str | None] = []
    references: list[list[str]] = []
    options: list[list[str] | None] = []
    for row in rows:
        if isinstance(row, TaskStore):
            features["inputs"].extend(row.feature("inputs")[0], row.input_lengths)
            features["targets"].extend(row.feature("targets")[0], row.target_lengths)
            example_ids.frombytes(np.ascontiguousarray(row.example_ids).view(np.uint8).data)
            templates.frombytes(np.ascontiguousarray(row.templates).view(np.uint8).data)
            if for_eval:
                columns_of_text = row.texts()
                texts += columns_of_text["inputs_text"]
                references += columns_of_text["targets_text"]
                options += columns_of_text["options"]
            continue
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
        handle.write(json.dumps(whole, indent=1, sort_keys=True))
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
    with path.open("wb") as handle, pa.ipc.new_file(handle, schema) as writer:
        writer.write_batch(batch.replace_schema_metadata(schema.metadata))


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
            broken = final.parent / f"{temporaries.prefix()}damaged"
            final.rename(broken)
            shutil.rmtree(broken, ignore_errors=True)
        else:
            shutil.rmtree(temporary, ignore_errors=True)
            return
    else:
        raise OSError(f"{final} is damaged and cannot be replaced")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
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
    if not isinstance(meta["tokens"], dict) or set(meta["tokens"]) != set(FEATURES):
        raise StoreDamaged(f"{path}: 'tokens' are not those of {' and '.join(FEATURES)}")
    if meta["format_version"] != FORMAT_VERSION:
        raise StoreDamaged(f"{path}: format version {meta['format_version']}, not {FORMAT_VERSION}")
    return meta


def _label(meta: Mapping[str, Any]) -> str:
    """What the Arrow file says it is, so that a file from another store is told."""
    return f"{meta.get('task', '')} {meta.get('split', '')} {meta.get('key', '')}".strip()


def _flat(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    offsets = column.offsets.to_numpy(zero_copy_only=True)
    return column.values.to_numpy(zero_copy_only=True), offsets
