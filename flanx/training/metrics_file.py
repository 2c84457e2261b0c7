"""metrics.jsonl: one JSON object a line, `{"step": 10, "split": "train", "values": {...}}`.

`split` is "train" or "eval". After a restart the file reads as if the run had never stopped: lines that the restored
checkpoint knows nothing of are cut.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from etils import epath

from flanx import atomic_files
from flanx.training.appended import Appended

FILE = "metrics.jsonl"


class MetricsFile:
    """Appends lines; opened at a step, which cuts what lies beyond it.

    Attributes:
      damage: what of the file could not be read and is left out, in one line; None where that is nothing.
    """

    def __init__(self, model_dir: str | Path, *, step: int, log_period: int):
        """Keeps lines up to `step`; before the first step, none at all.

        A training line at `step` that is not at a multiple of `log_period` was the last of a run that ended there: one
        that goes on writes its next line at the multiple, so that line is cut as well.
        """
        self._path = Path(model_dir) / FILE
        kept = []
        content = _content(model_dir) if step else b""
        lines, self.damage = _parse(content)
        if self.damage is not None:
            aside = Path(model_dir) / "damaged" / FILE
            atomic_files.write(aside, content)
            self.damage += f"; the file as it was is kept at {aside}"
        for line in lines:
            replaced = line["split"] == "train" and line["step"] == step and step % log_period
            if line["step"] <= step and not replaced:
                kept.append(_text(line))
        atomic_files.write(self._path, "".join(kept))
        self._file = Appended(self._path)

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """One line, at once on disk as far as other processes see; values that are no finite numbers are left out.

        Raises:
          OSError: it is not written yet; the next call tries again.
        """
        line = _text({"step": step, "split": split, "values": _finite(values)})
        self._file.write(line.encode())

    def close(self) -> None:
        """See `Appended.close`."""
        self._file.close()


def read(model_dir: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The lines of a run, none where there is no file; what is damaged or unfinished is left out."""
    yield from _parse(_content(model_dir))[0]


def _content(model_dir: str | os.PathLike[str]) -> bytes:
    path = epath.Path(model_dir) / FILE
    return path.read_bytes() if path.exists() else b""


def _parse(content: bytes) -> tuple[list[dict[str, Any]], str | None]:
    """Lines that can be read, and how many cannot; a kill may cut the last one, which is no damage."""
    *whole, last = content.split(b"\n")
    found, damaged, zeros = [], 0, 0
    for text in [*whole, last]:
        line = _line(text)
        if line is not None:
            found.append(line)
        elif text and (text is not last or b"\0" in text):
            damaged += 1
            zeros += text.count(b"\0")
    if not damaged:
        return found, None
    of_zeros = f", {zeros:,} bytes of zeros" if zeros else ""
    return found, f"{FILE} is damaged: {damaged} line{'s' * (damaged > 1)} left out{of_zeros}"


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text.decode())
        right = (
            isinstance(line["step"], int)
            and line["split"] in ("train", "eval")
            and isinstance(line["values"], dict)
            and all(_number_or_numbers(value) for value in line["values"].values())
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return line if right else None


def _number_or_numbers(value: Any) -> bool:
    values = value.values() if isinstance(value, dict) else (value,)
    return all(isinstance(number, int | float) for number in values)


def evaluation_at(model_dir: str | Path, step: int) -> dict[str, float] | None:
    """The values of the evaluation at `step`, or None where there was none."""
    found = None
    for line in read(model_dir):
        if (line["step"], line["split"]) == (step, "eval"):
            found = line["values"]
    return found


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":")) + "\n"


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result[name] = _finite(value)
        elif not isinstance(value, float) or math.isfinite(value):
            result[name] = value
    return result
