"""Evaluates suites of tasks: loss of the given answers, greedy answers, ranked options, scores.

The examples of all tasks of a suite are batched together, so that sixty small tasks cost what one
task of their size costs; results are regrouped by task before they are scored.
"""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from etils import epath

from flanx import atomic_files
from flanx.data import vocabulary as vocabularies
from flanx.data.manifest import Manifest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.evaluation import counts, predictions, scoring
from flanx.evaluation.predictor import Predictor
from flanx.evaluation.scoring import Failure
from flanx.evaluation.suite_data import SuiteData, Task, encode_options, gather
from flanx.evaluation.suites import EvalSuite, check

# (done, total, what): the examples that a pass over a suite has seen; "held_in: loss", "held_in: answers" or
# "held_in: options".
Progress = Callable[[int, int, str], None]


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
      model: a network of `flanx.models.build`.
      vocabulary: the model's.
      suites: what to evaluate.
      manifests: one for each suite, of stores that were cached with `for_eval=True`.
      cache_dir: where the stores lie.
      model_dir: answers are written to `<model_dir>/eval`.
      mesh: devices that share each batch; None for the default device.
      eval_steps: most batches of each task in teacher-forced evaluation; None for all.
      output_dir: answers are written here instead.
      write: writes a file, as `flanx.atomic_files.write` does.
      trained_on: datasets of the training data; None where they are not known.

    Attributes:
      index: the tasks of the last evaluation, as written to index.json.
      failures: the metrics and postprocessors that failed in it.

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
        write: predictions.Write = atomic_files.write,
        trained_on: Collection[str] | None = None,
    ):
        self._write = write
        self._trained_on = trained_on
        self.index: predictions.Index = {}
        self.failures: list[Failure] = []
        check(suites)
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
        self._predictor = Predictor(model, longest, mesh, vocabulary.eos_id)

    def run(self, params: Any, step: int, progress: Progress | None = None) -> dict[str, float]:
        """Evaluates every suite with these parameters.

        Args:
          params: the model's parameters.
          step: names the files of answers.
          progress: told how far each suite is.

        Returns:
          `<suite>/<task>/<metric>` (in percent; `loss` in nats per token, `token_accuracy` in percent), the
          mean of each over the suite's tasks as `<suite>/<metric>`, `<suite>/score`: the mean of each task's first
          metric, and how many examples and tasks each is of (`flanx.evaluation.counts`).
        """
        values: dict[str, float] = {}
        index: predictions.Index = {}
        self.index, self.failures = index, []
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

        def options_of(what: str, total: int) -> dict[str, Any]:
            done = 0

            def advance(count: int) -> None:
                nonlocal done
                done += count
                if progress and total:
                    progress(done, total, f"{suite.name}: {what}")

            advance(0)
            return {"batch_size": suite.batch_size, "advance": advance}

        ask = self._predictor
        losses = ask.losses(
            params, data.inputs(taught), data.targets(taught), **options_of("loss", len(taught))
        )
        answers.losses = dict(zip(taught, losses, strict=True))
        length = suite.max_decode_length or data.manifest.feature_lengths["targets"]
        ids = ask.generate(params, data.inputs(asked), length, **options_of("answers", len(asked)))
        decoded = [self._vocabulary.decode(row) for row in ids]
        answers.texts = dict(zip(asked, decoded, strict=True))
        encoded = encode_options(list(ranked.values()), self._vocabulary)
        scores = ask.option_scores(
            params, data.inputs(list(ranked)), encoded, **options_of("options", len(ranked))
        )
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
        """Writes each task's answers, scores them, and averages over tasks."""
        suite = data.suite.name
        values: dict[str, float] = {}
        columns: dict[str, list[float]] = {}
        index[suite] = {}
        for number, task in enumerate(data.tasks):
            examples = np.flatnonzero(data.task_of == number).tolist()
            records = [_record(task, data, i, answers) for i in examples]
            written = any("prediction" in record for record in records)
            stem = _free_stem(task.entry.task, suite, stems) if written else None
            if stem is not None and jax.process_index() == 0:
                path = predictions.predictions_path(self._folder, stem, step)
                predictions.write_predictions(path, records, self._write)
            loss = scoring.loss_scores([answers.losses[i] for i in examples if i in answers.losses])
            scores = scoring.score(task, records, generated=data.suite.generate)
            self.failures += scores.failures
            for name, value in (loss.values | scores.values).items():
                values[f"{suite}/{task.entry.task}/{name}"] = value
                columns.setdefault(name, []).append(value)
            if scores.headline is not None:
                columns.setdefault("score", []).append(scores.values[scores.headline])
            how = predictions.TaskIndex(
                file=stem,
                metrics=task.entry.metrics,
                headline=scores.headline,
                headline_metric=scores.source,
                postprocessor=task.entry.postprocessor,
                examples=len(examples),
                scored=scores.examples.get(scores.headline or "", 0),
                left_out=dict(task.entry.dropped),
                trained_on=None
                if self._trained_on is None
                else task.entry.dataset in self._trained_on,
            )
            index[suite][task.entry.task] = how
            values |= _task_counts(
                f"{suite}/{task.entry.task}", how, loss.examples | scores.examples
            )
        for name, reasons in data.manifest.left_out.items():
            index[suite][name] = how = predictions.no_examples(reasons)
            values |= _task_counts(f"{suite}/{name}", how, {})
        means = {name: math.fsum(column) / len(column) for name, column in columns.items()}
        values |= {f"{suite}/{name}": mean for name, mean in means.items()}
        return values | _suite_counts(suite, index[suite], columns)


def _task_counts(
    name: str, how: predictions.TaskIndex, examples: Mapping[str, int]
) -> dict[str, float]:
    """Of how many examples the values of a task are."""
    left_out = sum(how.left_out.values())
    return {
        f"{name}/{counts.EXAMPLES}": how.examples,
        **({f"{name}/{counts.LEFT_OUT}": left_out} if left_out else {}),
        **{
            f"{name}/{counts.fewer(metric, counts.EXAMPLES)}": number
            for metric, number in examples.items()
            if number != how.examples
        },
    }


def _suite_counts(
    suite: str, tasks: Mapping[str, predictions.TaskIndex], columns: Mapping[str, Sequence[float]]
) -> dict[str, float]:
    """Of how many tasks and examples the means of a suite are."""
    left_out = sum(sum(how.left_out.values()) for how in tasks.values())
    asked = sum(how.examples > 0 for how in tasks.values())
    return {
        f"{suite}/{counts.EXAMPLES}": sum(how.examples for how in tasks.values()),
        **({f"{suite}/{counts.LEFT_OUT}": left_out} if left_out else {}),
        f"{suite}/{counts.TASKS}": asked,
        **{
            f"{suite}/{counts.fewer(name, counts.TASKS)}": len(column)
            for name, column in columns.items()
            if len(column) != asked
        },
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
