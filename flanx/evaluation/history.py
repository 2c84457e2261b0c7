"""metrics.jsonl read back: one value over the steps."""

import os
from dataclasses import dataclass

from flanx.training import metrics_file


@dataclass(frozen=True)
class History:
    """What a run logged.

    Attributes:
      loss: training loss by step, ascending.
      evals: evaluation metrics by step, ascending; `{"held_in/score": 71.0, ...}`.
    """

    loss: dict[int, float]
    evals: dict[int, dict[str, float]]

    def series(self, name: str) -> dict[int, float]:
        """An evaluation metric by step, where it was measured."""
        return {step: values[name] for step, values in self.evals.items() if name in values}


def read(model_dir: str | os.PathLike[str]) -> History:
    """Reads MODEL_DIR/metrics.jsonl; empty where there is none.

    Of several lines for one step (a run that was stopped and went on) the last counts; an unfinished
    last line is left out.
    """
    loss: dict[int, float] = {}
    evals: dict[int, dict[str, float]] = {}
    for line in metrics_file.read(model_dir):
        step, values = int(line["step"]), line["values"]
        if line["split"] == "train":
            if "loss" in values:
                loss[step] = float(values["loss"])
        else:
            numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
            evals[step] = evals.get(step, {}) | numbers
    return History(dict(sorted(loss.items())), dict(sorted(evals.items())))
