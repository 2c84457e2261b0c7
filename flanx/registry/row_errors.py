"""Errors that one row causes: where the row stands, what is wrong with it, and where in the user's code it came up."""

from collections.abc import Callable, Mapping
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.user_code.error_lines import in_words, user_line

LEAVE_OUT = "or let `fields` return None to leave the row out"


class RowError(UserError):
    """A row that makes no example and should: the user is to fix it, or to leave it out.

    Attributes:
      kind: what is wrong, equal for all rows with the same fault, for whoever counts them.

    Args:
      kind: see above.
      where: tells where the row stands, `file:line`; asked only when the message is read, as it may read the file.
      text: the message after the place.
    """

    def __init__(self, kind: str, where: Callable[[], str], text: str):
        super().__init__(kind)
        self.kind = kind
        self._where = where
        self._text = text
        self._said: str | None = None

    def __str__(self) -> str:
        if self._said is None:
            self._said = f"{self._where()}: {self._text}"
        return self._said

    def __reduce__(self) -> tuple[Any, ...]:
        return UserError, (str(self),)  # between processes the message is enough


def fields_failed(
    error: Exception, dataset: str, row: Mapping[str, Any], where: Callable[[], str]
) -> RowError:
    """What to say where `fields` raises: the field that the row lacks, or the exception and its line."""
    name = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(name, str) and _is_missing(name, row):
        line = user_line(error)
        return RowError(
            f"no field '{name}'",
            where,
            f"the row has no field '{name}', which task '{dataset}' needs{did_you_mean(name, row)} "
            f"(it has {', '.join(map(str, row))}{f'; asked for at {line}' if line else ''})",
        )
    return RowError(
        f"`fields` fails with {type(error).__name__}",
        where,
        f"`fields` of task '{dataset}' fails on this row ({in_words(error)})",
    )


def _is_missing(name: str, row: Any) -> bool:
    return isinstance(row, Mapping) and name not in row and name not in row.values()
