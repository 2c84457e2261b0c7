"""Evaluates suites of tasks: loss of the given answers, greedy answers, ranked options, scores.

The examples of all tasks of a suite are batched together, so that sixty small tasks cost what one
task of their size costs; results are regrouped by task before they are scored.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from etils import epath

from flanx import whole_files
from flanx.data import vocabulary as vocabularies
from flanx.data.manifest import Manifest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.evaluation import metrics, predictions
from flanx.evaluation.predictor import Predictor
from flanx.evaluation.suite_data import SuiteData, Task, encode_options, gather
from flanx.evaluation.suites import EvalSuite

Progress = Callable[[int, int, str], None]  # (done, total, suite name), in examples times passes


@dataclass
class _Answers:
    """What the model said to the examples of a suite, by example number."""

    losses: dict[int, np.ndarray] = field(default_factory=dict)
    texts: dict[int, str] = field(default_factory=dict)
    options: dict[int, list[str]] = field(default_factory=dict)
    scores: dict[int, list[float]] = field(default_factory=dict)


class Evaluator:
    """Runs the suites of a run; kept between evaluations so that nothing is compiled twice.

    Args:
      model: a `flanx.models.t5.network.T5`.
      vocabulary: the model's.
      suites: what to evaluate.
      manifests: one for each suite, of stores that were cached with `for_eval=True`.
      cache_dir: where the stores lie.
      model_dir: answers are written to `<model_dir>/eval`.
      mesh: devices that share each batch; None for the default device.
      eval_steps: most batches of each task in teacher-forced evaluation; None for all.
      output_dir: answers are written here instead.
      write: writes a file, as `flanx.whole_files.write` does.

    Raises:
      UserError: a suite was tokenised with another vocabulary, two suites have one name, or a
        metric cannot be found.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        suites: Sequence[EvalSuite],
        manifests: Sequence[Manifest],
        cache_dir: str,
        model_dir: str | os.PathLike[str],
        *,
        mesh: Any = None,
        eval_steps: int | None = None,
        output_dir: str | os.PathLike[str] | None = None,
        write: predictions.Write = whole_files.write,
    ):
        self._write = write
        names = [suite.name for suite in suites]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"two evaluation suites are named '{twice}'; give each its own name")
        for suite, manifest in zip(suites, manifests, strict=True):
            _check_vocabulary(suite, manifest, vocabulary)
        self._vocabulary = vocabulary
        self._suites = [
            gather(suite, manifest, cache_dir)
            for suite, manifest in zip(suites, manifests, strict=True)
        ]
        self._folder = epath.Path(output_dir or epath.Path(model_dir) / predictions.FOLDER)
        self._eval_steps = eval_steps
        longest = max((m.feature_lengths["inputs"] for m in manifests), default=1)
        self._predictor = Predictor(model, longest, mesh)

    def run(self, params: Any, step: int, progress: Progress | None = None) -> dict[str, float]:
        """Evaluates every suite with these parameters.

        Args:
          params: the model's parameters.
          step: names the files of answers.
          progress: told how far each suite is.

        Returns:
          `<suite>/<task>/<metric>` (in percent; `loss` in nats a token, `token_accuracy` in percent), the
          mean of each over the suite's tasks as `<suite>/<metric>`, and `<suite>/score`: the mean
          of each task's first metric.
        """
        values: dict[str, float] = {}
        index: predictions.Index = {}
        stems: set[str] = set()
        for data in self._suites:
            answers = self._ask(data, params, progress)
            values |= self._score(data, answers, step, index, stems)
        if jax.process_index() == 0 and index:
            predictions.write_index(self._folder, index, self._write)
        return values

    def _ask(self, data: SuiteData, params: Any, progress: Progress | None) -> _Answers:
        suite, answers = data.suite, _Answers()
        most = None if self._eval_steps is None else self._eval_steps * suite.batch_size
        taught = data.first_of_tasks(most)
        asked = data.of_tasks("generation") if suite.generate else []
        candidates = data.of_tasks("option_scores")
        ranked = {
            i: choices
            for i, choices in zip(candidates, data.options(candidates), strict=True)
            if choices
        }
        total, done = len(taught) + len(asked) + len(ranked), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if progress:
                progress(done, total, suite.name)

        ask = self._predictor
        options_: dict[str, Any] = {"batch_size": suite.batch_size, "advance": advance}
        losses = ask.losses(params, data.inputs(taught), data.targets(taught), **options_)
        answers.losses = dict(zip(taught, losses, strict=True))
        length = suite.max_decode_length or data.manifest.feature_lengths["targets"]
        ids = ask.generate(params, data.inputs(asked), length, **options_)
        decoded = [self._vocabulary.decode(row) for row in ids]
        answers.texts = dict(zip(asked, decoded, strict=True))
        encoded = encode_options(list(ranked.values()), self._vocabulary)
        scores = ask.option_scores(params, data.inputs(list(ranked)), encoded, **options_)
        answers.options = ranked
        answers.scores = dict(zip(ranked, scores, strict=True))
        return answers

    def _score(
        self,
        data: SuiteData,
        answers: _Answers,
        step: int,
        index: predictions.Index,
        stems: set[str],
    ) -> dict[str, float]:
        """Scores each task, writes its answers, and averages over tasks."""
        suite = data.suite.name
        values: dict[str, float] = {}
        columns: dict[str, list[float]] = {}
        index[suite] = {}
        for number, task in enumerate(data.tasks):
            examples = np.flatnonzero(data.task_of == number).tolist()
            records = [_record(task, data, i, answers) for i in examples]
            scores, headline, source = _task_scores(task, records, data.suite.generate)
            found = _loss_scores([answers.losses[i] for i in examples if i in answers.losses])
            for name, value in (found | scores).items():
                values[f"{suite}/{task.entry.task}/{name}"] = value
                columns.setdefault(name, []).append(value)
            if headline is not None:
                columns.setdefault("score", []).append(scores[headline])
            written = any("prediction" in record for record in records)
            stem = _free_stem(task.entry.task, suite, stems) if written else None
            index[suite][task.entry.task] = predictions.TaskIndex(
                file=stem,
                metrics=task.entry.metrics,
                headline=headline,
                headline_metric=source,
                postprocessor=task.entry.postprocessor,
                examples=len(examples),
            )
            if stem is not None and jax.process_index() == 0:
                path = predictions.predictions_path(self._folder, stem, step)
                predictions.write_predictions(path, records, self._write)
        return values | {
            f"{suite}/{name}": math.fsum(column) / len(column) for name, column in columns.items()
        }


def _record(task: Task, data: SuiteData, example: int, answers: _Answers) -> dict[str, Any]:
    row = int(data.row_of[example])
    record: dict[str, Any] = {
        "index": int(task.store.example_ids[row]),
        "input": task.store.inputs_text(row),
        "references": task.store.references(row),
    }
    scores = answers.scores.get(example)
    if example in answers.texts:
        record["prediction"] = answers.texts[example]
    elif scores is not None:
        record["prediction"] = answers.options[example][int(np.argmax(scores))]
    if scores is not None:
        record |= {"options": answers.options[example], "scores": scores}
    return record


def _task_scores(
    task: Task, records: Sequence[dict[str, Any]], generated: bool
) -> tuple[dict[str, float], str | None, str | None]:
    """Every metric of a task that its records allow; the first one's name, and its function's."""
    clean = task.postprocess
    scores: dict[str, float] = {}
    source = None
    for name, metric in zip(task.entry.metrics, task.metrics, strict=True):
        ranking = metrics.needs_of(metric) == "option_scores"
        usable = [r for r in records if "scores" in r] if ranking else records
        if not usable or not (ranking or generated):
            continue
        references = [[clean(text) for text in r["references"]] for r in usable]
        try:
            if ranking:
                options = [[clean(text) for text in r["options"]] for r in usable]
                result = metric(references, options, [r["scores"] for r in usable])
            else:
                result = metric(references, [clean(r["prediction"]) for r in usable])
        except Exception as error:
            error.add_note(f"in metric '{name}' of task '{task.entry.task}'")
            raise
        scores |= {key: float(value) for key, value in result.items()}
        source = source or name
    return scores, next(iter(scores), None), source


def _loss_scores(losses: Sequence[np.ndarray]) -> dict[str, float]:
    if not losses:
        return {}
    loss, correct, tokens = (math.fsum(column) for column in zip(*losses, strict=True))
    return {"loss": loss / max(tokens, 1), "token_accuracy": 100.0 * correct / max(tokens, 1)}


def _free_stem(task: str, suite: str, taken: set[str]) -> str:
    """A file name for a task's answers; a second suite with the same task adds its own name."""
    stem = predictions.file_stem(task)
    if stem in taken:
        stem = f"{stem}@{suite}"
    taken.add(stem)
    return stem


def _check_vocabulary(suite: EvalSuite, manifest: Manifest, vocabulary: Vocabulary) -> None:
    made_with = manifest.vocabulary
    if made_with["fingerprint"] == vocabulary.fingerprint:
        return
    other = vocabularies.load(made_with["spec"], manifest.request.get("data_dir"))
    if not vocabularies.includes(vocabulary, other):
        raise UserError(
            f"suite '{suite.name}' is tokenised with '{made_with['spec']}', the model with "
            f"'{vocabulary.spec}'; set VOCABULARY to the model's"
        )
