"""Where rows come from: files looked up when they are read, never when they are registered."""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from flanx import resources
from flanx.errors import UserError
from flanx.registry.row_errors import RowError
from flanx.registry.sources import json_rows, parquet_rows, text_files
from flanx.registry.sources.file_hashes import file_hash
from flanx.user_code.code_hash import code_files, code_hash
from flanx.user_code.error_lines import in_words

# In the key of every store made of these sources. Raise it when unchanged files, or an unchanged function, give other
# rows: other columns, values, types or order. `text_files`, `json_rows` and `parquet_rows` belong to it.
VERSION = 1
Row = Mapping[str, Any]
Paths = str | Sequence[str]


@runtime_checkable
class RowSource(Protocol):
    """What a task asks of its source. Row i of a split is the same row in every process."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        ...

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        """The split's rows in order; raises UserError naming file:line where one cannot be read."""
        ...

    def count(self, split: str, data_dir: str | None = None) -> int:
        """Number of rows."""
        ...

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        """Absolute paths of the files that the split is read from."""
        ...

    def fingerprint(self, split: str, data_dir: str | None = None) -> dict[str, Any]:
        """JSON-able description of the split's content; another content gives another fingerprint."""
        ...

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        """Where row `index` stands, for messages: `file:line`."""
        ...


def find(path: str, folders: Sequence[str], data_dir: str | None) -> str:
    """The file `path` in the first of `folders` that has it; a relative folder is one of the data folder.

    Raises:
      UserError: none has it.
    """
    missing = None
    for folder in folders:
        try:
            return resources.resolve(os.path.join(folder, path), data_dir)
        except UserError as error:
            missing = missing or error
    if len(folders) == 1 or missing is None:
        raise missing or UserError(f"no such file: '{path}'")
    raise UserError(f"{missing}; also not in {', '.join(repr(folder) for folder in folders[1:])}")


class FileSource:
    """Splits of one or more files each; a subclass reads one file with `_read`.

    Args:
      folders: places under the data folder where a relative path may lie, tried in order.
      splits: path, or paths, of each split.
    """

    def __init__(self, *, folders: Sequence[str] = ("",), **splits: Paths | None) -> None:
        self._folders = (folders,) if isinstance(folders, str) else tuple(folders)
        self._paths = {
            split: _paths_of(type(self).__name__, split, paths)
            for split, paths in splits.items()
            if paths is not None
        }
        if not self._paths:
            raise UserError(f"{type(self).__name__}: no files; give train='...', say")

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._paths)

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        return [find(os.fspath(path), self._folders, data_dir) for path in self._paths[split]]

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        for file in self.files(split, data_dir):
            for _, row in self._read(file):
                yield row

    def count(self, split: str, data_dir: str | None = None) -> int:
        return sum(1 for _ in self.rows(split, data_dir))

    def fingerprint(self, split: str, data_dir: str | None = None) -> dict[str, Any]:
        hashes = [file_hash(file) for file in self.files(split, data_dir)]
        return {
            "source": type(self).__name__,
            "version": VERSION,
            "sha256": hashes,
            **self._settings(),
        }

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        places = ((file, n) for file in self.files(split, data_dir) for n, _ in self._read(file))
        file, line = next(itertools.islice(places, index, None))
        return f"{file}:{line}"

    def _settings(self) -> dict[str, Any]:
        return {}

    def _read(self, file: str) -> Iterator[tuple[int, Row]]:
        """(line number, row) of each row."""
        raise NotImplementedError

    def __repr__(self) -> str:
        paths = ", ".join(
            f"{split}={'+'.join(str(path) for path in p)!r}" for split, p in self._paths.items()
        )
        return f"{type(self).__name__}({paths})"


class Jsonl(FileSource):
    """JSON lines, one object a line, or one JSON array of objects; plain or compressed, whatever the name.

    Blank lines are passed over. A key that stands twice in one object, with different values, is an error.

    Args:
      train, validation, test: path of each split's file, or several paths; more splits by name.
    """

    def _read(self, file: str) -> Iterator[tuple[int, Row]]:
        return json_rows.rows(file)


class Tsv(FileSource):
    """Tab-separated values, plain or compressed, with no quoting: a quotation mark is a character like any other.

    Args:
      columns: names of the columns, in order; every line must have as many. None: the first line names them.
      line_break: how a line break inside a field is written; None where fields have none.
      train, validation, test: path of each split's file, or several paths; more splits by name.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        line_break: str | None = "\\n",
        folders: Sequence[str] = ("",),
        **splits: Paths | None,
    ) -> None:
        super().__init__(folders=folders, **splits)
        self._columns = None if columns is None else tuple(columns)
        if self._columns is not None:
            _refuse_doubles(type(self).__name__, self._columns)
        self._line_break = line_break

    def _settings(self) -> dict[str, Any]:
        return {"columns": self._columns and list(self._columns), "line_break": self._line_break}

    def _read(self, file: str) -> Iterator[tuple[int, Row]]:
        columns = self._columns
        line_break = self._line_break
        for number, line in text_files.lines(file):
            if not line:
                continue
            cells = line.split("\t")
            if columns is None:
                columns = tuple(cells)
                _refuse_doubles(f"{file}:{number}", columns)
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{file}:{number}: {len(cells)} columns where {len(columns)} are expected "
                    f"({', '.join(columns)}); check for a stray or missing tab"
                )
            if line_break is not None and line_break in line:
                cells = [cell.replace(line_break, "\n") for cell in cells]
            yield number, dict(zip(columns, cells, strict=True))


class Parquet(FileSource):
    """Parquet files.

    Args:
      columns: read these alone; None for all.
      train, validation, test: path of each split's file, or several paths; more splits by name.
    """

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        *,
        folders: Sequence[str] = ("",),
        **splits: Paths | None,
    ) -> None:
        super().__init__(folders=folders, **splits)
        self._columns = None if columns is None else list(columns)

    def count(self, split: str, data_dir: str | None = None) -> int:
        return sum(map(parquet_rows.count, self.files(split, data_dir)))

    def _settings(self) -> dict[str, Any]:
        return {"columns": self._columns}

    def _read(self, file: str) -> Iterator[tuple[int, Row]]:
        return parquet_rows.rows(file, self._columns)


class Generated:
    """Rows that a function makes: `row_fn(split, index) -> row`, a pure function of the two.

    Example:
      >>> def add(split, index):
      ...     draws = Draws(0, "add", index, split)
      ...     a, b = draws.integer(90), draws.integer(90)
      ...     return {"question": f"{a} + {b}", "answer": str(a + b)}
      >>> Generated(add, train=10_000, validation=500)
    """

    def __init__(self, row_fn: Callable[[str, int], Row], **counts: int) -> None:
        if not callable(row_fn):
            raise UserError(
                f"Generated: {row_fn!r} is no function; give one that makes a row of (split, index)"
            )
        for split, count in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise UserError(
                    f"Generated: {split}={count!r} is no number of rows; give 0 or more"
                )
        self._row_fn = row_fn
        self._counts = dict(counts)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._counts)

    def row_at(self, split: str, index: int, data_dir: str | None = None) -> Row:
        """Row `index` of the split, without those before it; raises RowError where the function fails."""
        try:
            return self._row_fn(split, index)
        except UserError:
            raise
        except Exception as error:
            raise RowError(
                f"the row's function fails with {type(error).__name__}",
                lambda: self.where(split, index),
                f"`{_name(self._row_fn)}` fails ({in_words(error)})",
            ) from error

    def rows(self, split: str, data_dir: str | None = None) -> Iterator[Row]:
        return (self.row_at(split, index) for index in range(self._counts[split]))

    def count(self, split: str, data_dir: str | None = None) -> int:
        return self._counts[split]

    def files(self, split: str, data_dir: str | None = None) -> list[str]:
        return []

    def code_files(self) -> tuple[str, ...]:
        """Source files of the code that makes the rows."""
        return code_files(self._row_fn)

    def fingerprint(self, split: str, data_dir: str | None = None) -> dict[str, Any]:
        return {
            "source": "Generated",
            "version": VERSION,
            "code": code_hash(self._row_fn),
            "split": split,
            "count": self._counts[split],
        }

    def where(self, split: str, index: int, data_dir: str | None = None) -> str:
        return f"generated {split} row {index}"

    def __repr__(self) -> str:
        return f"Generated({_name(self._row_fn)}, {self._counts})"


def _paths_of(source: str, split: str, given: Any) -> tuple[str | os.PathLike[str], ...]:
    single = isinstance(given, (str, os.PathLike)) or not isinstance(given, Iterable)
    paths = (given,) if single else tuple(given)
    for path in paths:
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise UserError(
                f"{source}: {split}={path!r} is no path; give a file, or a list of files"
            )
    return paths


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", function))


def _refuse_doubles(place: str, columns: Sequence[str]) -> None:
    for column in columns:
        if columns.count(column) > 1:
            raise UserError(
                f"{place}: two columns of one name, {column!r}; rename one (Tsv(columns=[...]) names them)"
            )
