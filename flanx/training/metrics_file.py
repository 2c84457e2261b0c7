"""metrics.jsonl: one JSON object a line, `{"step": 10, "split": "train", "values": {...}}`.

`split` is "train" or "eval". After a restart the file reads as if the run had never stopped: lines that the restored
checkpoint knows nothing of are cut.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "metrics.jsonl"


class MetricsFile:
    """Appends lines; opened at a step, which cuts what lies beyond it."""

    def __init__(self, model_dir: str | Path, *, step: int, log_period: int):
        """Keeps lines up to `step`; before the first step, none at all.

        A training line at `step` that is not at a multiple of `log_period` was the last of a run that ended there: one
        that goes on writes its next line at the multiple, so that line is cut as well.
        """
        self._path = Path(model_dir) / FILE
        kept = []
        for text in self._path.read_text().split("\n") if self._path.exists() else ():
            line = _parse(text)
            if line is None or step == 0 or line["step"] > step:
                continue
            if line["split"] == "train" and line["step"] == step and step % log_period:
                continue
            kept.append(text)
        temporary = self._path.with_name(f".{FILE}")
        temporary.write_text("".join(f"{text}\n" for text in kept))
        temporary.replace(self._path)
        self._handle = self._path.open("a")

    def write(self, step: int, split: str, values: Mapping[str, Any]) -> None:
        """One line, at once on disk as far as other processes see; values that are no finite numbers are left out."""
        line = {"step": step, "split": split, "values": _finite(values)}
        self._handle.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._handle.flush()

    def close(self) -> None:
        self._handle.close()


def evaluation_at(model_dir: str | Path, step: int) -> dict[str, float] | None:
    """The values of the evaluation at `step`, or None where there was none."""
    path = Path(model_dir) / FILE
    found = None
    for text in path.read_text().split("\n") if path.exists() else ():
        line = _parse(text)
        if line is not None and (line["step"], line["split"]) == (step, "eval"):
            found = line["values"]
    return found


def _parse(text: str) -> dict[str, Any] | None:
    """A line, or None for an empty or unfinished one (a kill may cut the last)."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            result[name] = _finite(value)
        elif not isinstance(value, float) or math.isfinite(value):
            result[name] = value
    return result
