"""Rows as bytes inside SeqIO's pipelines, and in SeqIO's caches on disk: read back without running any code.

Unpickling what others can write to runs what they please. Here only values come back: what JSON knows, bytes, dates,
decimals, arrays. A row that holds anything else is refused when it is written.
"""

import io
import pickle
from typing import Any

from flanx.errors import UserError

_CLASSES = frozenset(
    {
        *(f"builtins.{name}" for name in ("bytearray", "complex", "frozenset", "set")),
        *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
        *("decimal.Decimal", "fractions.Fraction", "uuid.UUID", "collections.OrderedDict"),
        *(f"numpy.{name}" for name in ("dtype", "ndarray")),
        *(
            f"numpy.{core}.{name}"
            for core in ("core", "_core")
            for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
        ),
    }
)


def dumps(value: Any) -> bytes:
    """The value as bytes.

    Raises:
      UserError: it holds something that is no plain value.
    """
    try:
        data = pickle.dumps(value, protocol=4)
        loads(data)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(f"a row holds what cannot be stored ({error}); {_FIX}") from None
    return data


def loads(data: bytes) -> Any:
    """What `dumps` was given.

    Raises:
      UserError: the bytes name a class or function that is no plain value's.
    """
    return _Reader(io.BytesIO(data)).load()


_FIX = "let the source give texts, numbers, lists and dicts"


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _CLASSES:
            raise UserError(f"a row holds a {module}.{name}; {_FIX}")
        return super().find_class(module, name)
