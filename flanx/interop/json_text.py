"""JSON as checkpoints bring it, which may be damaged or made to do harm: every fault of it is a ValueError."""

import json
from collections.abc import Sequence
from typing import Any


def parse(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: not UTF-8, not JSON, nested so deeply that it is no metadata, or an object with one name twice, of
        which a reader could take either.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def count(value: Any) -> int:
    """`value` where it is a whole number from 0, as a length or an offset is.

    Raises:
      ValueError: it is something else; a bool and 3.0 too.
    """
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]} is no length")
    return value


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names: set[str] = set()
        for name, _ in pairs:
            if name in names:
                raise ValueError(f"'{name[:80]}' is in it twice")
            names.add(name)
    return found
