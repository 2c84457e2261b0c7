"""The best constant answer: what a task scores when every question gets the same reply."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flanx.evaluation import metrics, postprocess
from flanx.evaluation.predictions import TaskIndex

CANDIDATES = 8


@dataclass(frozen=True)
class Majority:
    """A constant answer and its score in percent."""

    answer: str
    score: float


def majority(how: TaskIndex, records: Sequence[Mapping[str, Any]]) -> Majority | None:
    """The constant answer that scores best by the task's headline metric, among its commonest references.

    It is chosen on the very examples it is scored on, so it is no lower than any constant a model
    could have learnt. Where options are ranked, the constant is the option picked each time.

    Args:
      how: the task's metrics and postprocessor.
      records: its predictions, as `predictions.read_predictions` gives them.

    Returns:
      None for a task without a headline metric or without examples, or whose metric fails on every constant.
    """
    if how.headline is None or how.headline_metric is None:
        return None
    metric = metrics.resolve(how.headline_metric)
    ranking = metrics.needs_of(metric) == "option_scores"
    usable = [record for record in records if not ranking or "scores" in record]
    if not usable:
        return None
    clean = postprocess.resolve(how.postprocessor) if how.postprocessor else str
    references = [[clean(text) for text in record["references"]] for record in usable]
    counts = Counter(text for texts in references for text in dict.fromkeys(texts))
    commonest = sorted(counts, key=lambda text: (-counts[text], text))[:CANDIDATES]
    tried = []
    for answer in commonest:
        predictions = [answer] * len(usable)
        if ranking:
            score = metrics.accuracy(references, predictions)["accuracy"]
        else:
            try:
                score = float(metric(references, predictions)[how.headline])
            except Exception:  # a user's metric that fails on a constant has no score for it
                continue
        tried.append(Majority(answer, score))
    return max(tried, key=lambda majority: majority.score, default=None)
