"""flanx's tasks and mixtures in SeqIO's registries, and SeqIO's in flanx's selections.

With `seqio_vocabulary` the only module of the registry that imports SeqIO (and TensorFlow with it). It is imported when
somebody else has imported SeqIO, so that a tool which knows SeqIO alone finds the tasks by name, in whichever order the
two are imported.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
from absl import logging

from flanx.errors import UserError
from flanx.registry import table
from flanx.registry.mixtures import selection
from flanx.registry.mixtures.mixing_rates import rates
from flanx.registry.mixtures.selected import Selected
from flanx.registry.rendering.renderer import Rendered, Renderer
from flanx.registry.seqio import plain_pickle
from flanx.registry.seqio.mixtures import num_examples
from flanx.registry.seqio_vocabulary import LateVocabulary
from flanx.registry.spec import TaskSpec
from flanx.user_code import import_by_name
from flanx.user_code.import_by_name import METRIC, POSTPROCESSOR

SEED = 0  # SeqIO hands preprocessors no seed of the run; flanx's own commands take theirs
_published: set[str] = set()


def attach() -> None:
    """Puts everything registered into SeqIO's registries, and whatever comes later."""
    table.listen(publish)


def publish(name: str) -> None:
    """Puts the dataset or mixture `name` into SeqIO's registries: a task a type, and a mixture over them.

    Raises:
      UserError: other code has registered the name with SeqIO.
    """
    for spec in table.datasets().get(name, ()):
        _free(spec.name, seqio.TaskRegistry, spec.place)
        features = _output_features(spec.vocabulary)
        seqio.TaskRegistry.add(
            spec.name,
            source=RowDataSource(spec),
            preprocessors=[
                # What SeqIO keeps of a cached task is its rows: exemplars are chosen by the lengths, known later.
                seqio.CacheDatasetPlaceholder(),
                _render_with(spec),
                seqio.preprocessors.tokenize,
                seqio.preprocessors.append_eos_after_trim,
            ],
            output_features=features,
            metric_fns=[_metric(metric) for metric in spec.metrics if not _ranks(metric)],
            postprocess_fn=_postprocess_with(spec.postprocessor),
        )
    place = table.mixtures()[name].place if name in table.mixtures() else ""
    _free(name, seqio.MixtureRegistry, place)
    seqio.MixtureRegistry.add_provider(name, SelectedMixture(name))


def _free(name: str, registry: Any, place: str) -> None:
    if name in registry.names():
        if name not in _published:
            raise UserError(
                f"'{name}' ({place}): other code has registered this name with SeqIO; rename one"
            )
        registry.remove(name)
    _published.add(name)


class RowDataSource(seqio.DataSource):
    """A task's rows as SeqIO reads them: the pickled row, its place and its split. Nothing is read before that."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__(splits=())
        self._spec = spec

    @property
    def splits(self) -> Sequence[str]:
        return self._spec.splits

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return False

    def list_shards(self, split: str) -> Sequence[str]:
        return [split]

    @functools.cache  # noqa: B019  (as long-lived as the registry)
    def num_input_examples(self, split: str) -> int:
        return self._spec.count(split)

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: Any = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        if shard_info is not None and shard_info.num_shards > 1:
            raise ValueError("a RowDataSource has one shard; shard its examples")

        def rows() -> Iterator[tuple[bytes, int]]:
            for index, row in enumerate(self._spec.source.rows(split)):
                yield plain_pickle.dumps(dict(row)), index

        dataset = tf.data.Dataset.from_generator(
            rows,
            output_signature=(
                tf.TensorSpec((), tf.string),
                tf.TensorSpec((), tf.int64),
            ),
        )
        return dataset.map(lambda row, index: {"row": row, "index": index, "split": split})


def _render_with(spec: TaskSpec) -> Callable[..., tf.data.Dataset]:
    """The preprocessor that makes `inputs` and `targets`, and keeps `references`, `options` and `index`."""

    def render(
        dataset: tf.data.Dataset,
        output_features: Mapping[str, seqio.Feature],
        sequence_length: Mapping[str, int] | None = None,
    ) -> tf.data.Dataset:
        renderers: dict[str, Renderer] = {}

        def one(row: bytes, index: int, split: bytes) -> tuple[Any, ...]:
            name = split.decode()
            if name not in renderers:
                renderers[name] = spec.renderer(
                    name,
                    feature_lengths=sequence_length,
                    vocabulary=output_features["inputs"].vocabulary,
                    seed=SEED,
                )
            made = renderers[name](int(index), plain_pickle.loads(row))
            if not isinstance(made, Rendered):
                return b"", b"", _texts(()), _texts(()), False
            return (
                made.inputs.encode("utf-8", "replace"),
                made.targets.encode("utf-8", "replace"),
                _texts(made.references),
                _texts(made.options or ()),
                True,
            )

        def to_example(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            inputs, targets, references, options, kept = tf.numpy_function(
                one,
                (example["row"], example["index"], example["split"]),
                (tf.string, tf.string, tf.string, tf.string, tf.bool),
            )
            return {
                "inputs": tf.ensure_shape(inputs, ()),
                "targets": tf.ensure_shape(targets, ()),
                "references": tf.ensure_shape(references, (None,)),
                "options": tf.ensure_shape(options, (None,)),
                "index": example["index"],
                "kept": tf.ensure_shape(kept, ()),
            }

        made = _endless_refused(dataset.map(to_example), spec, sequence_length)
        return made.filter(lambda example: example["kept"]).map(
            lambda example: {name: value for name, value in example.items() if name != "kept"}
        )

    return render


def _endless_refused(
    dataset: tf.data.Dataset, spec: TaskSpec, lengths: Mapping[str, int] | None
) -> tf.data.Dataset:
    """The same examples; an error where SeqIO would read the rows over and over, and none of them is kept.

    SeqIO repeats a task's rows before they are rendered. The third time that a dropped row comes by with nothing kept
    in between, every other row has come by as well, in whatever order.
    """
    message = (
        f"task '{spec.name}' gives no example at {dict(lengths) if lengths else 'any'} tokens: every row is dropped; "
        "leave it out, or raise the lengths"
    )

    def count(state: tuple[tf.Tensor, tf.Tensor], example: Mapping[str, tf.Tensor]) -> Any:
        first, times = state
        starts = first < 0
        again = tf.equal(first, example["index"])
        times = tf.where(starts, 1, tf.where(again, times + 1, times))
        first = tf.where(starts, example["index"], first)
        none = tf.constant(-1, tf.int64)
        state = (tf.where(example["kept"], none, first), tf.where(example["kept"], 0, times))
        with tf.control_dependencies([tf.debugging.assert_less(state[1], 3, message=message)]):
            return state, {name: tf.identity(value) for name, value in example.items()}

    return dataset.scan((tf.constant(-1, tf.int64), tf.constant(0)), count)


def gives_nothing(spec: TaskSpec, split: str, lengths: Mapping[str, int] | None) -> bool:
    """Whether no row of a task's split makes an example under the lengths; reads up to the first that does."""
    words = _output_features(spec.vocabulary)["inputs"].vocabulary
    made = spec.render(split, feature_lengths=lengths, vocabulary=words, seed=SEED)
    return not any(isinstance(one, Rendered) for one in made)


def _texts(texts: Sequence[str]) -> np.ndarray:
    return np.array([text.encode("utf-8", "replace") for text in texts], dtype=object)


class SelectedMixture(seqio.Mixture):
    """A dataset or mixture of flanx's: its tasks and rates are worked out when SeqIO first asks.

    Rates come from the sources' row counts, in linear time; a count is taken only where a rule needs it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._sample_fn = functools.partial(
            tf.data.Dataset.sample_from_datasets, stop_on_empty_dataset=True
        )
        self._source_info = None
        self._sub_mixtures: list[seqio.Mixture] = []

    @functools.cached_property
    def _selected(self) -> list[Selected]:
        return selection.resolve(self._name, split=None)

    @property
    def tasks(self) -> list[seqio.Task]:
        return [seqio.TaskRegistry.get(one.task) for one in self._selected]

    @functools.cached_property
    def _rates(self) -> dict[str, float]:
        counts = {}
        for one in self._selected:
            counts[one.task] = 1
            if any(rule.rate is None for rule in one.rules):
                task = seqio.TaskRegistry.get(one.task)
                split = "train" if "train" in task.splits else task.splits[0]
                counts[one.task] = num_examples(task, split)
        return rates(self._selected, counts)

    def get_dataset(
        self,
        sequence_length: Mapping[str, int] | None = None,
        split: str = "train",
        use_cached: bool = False,
        *settings: Any,
        **named: Any,
    ) -> tf.data.Dataset:
        """As SeqIO's, without the tasks that have no example under the lengths: they are named in a warning.

        Raises:
          UserError: no task has one.
        """
        # SeqIO's caches may be all that is here of the sources; what gives nothing is then an error as it is read.
        empty = [] if use_cached else self._empty(sequence_length, split)
        if not empty:
            return super().get_dataset(sequence_length, split, use_cached, *settings, **named)
        names = ", ".join(empty)
        if len(empty) == len([one for one in self.tasks if split in one.splits]):
            raise UserError(
                f"'{self._name}' ({split}) has no example at {dict(sequence_length or {})} tokens: every row of "
                f"{names} is dropped; raise the lengths"
            )
        logging.warning(
            "'%s' (%s) is mixed without tasks that give nothing at %s tokens: %s",
            self._name,
            split,
            dict(sequence_length or {}),
            names,
        )
        return self._without(empty).get_dataset(
            sequence_length, split, use_cached, *settings, **named
        )

    def _empty(self, lengths: Mapping[str, int] | None, split: str) -> list[str]:
        mixed = (one.spec for one in self._selected)
        specs = [spec for spec in mixed if spec is not None and split in spec.splits]
        return [spec.name for spec in specs if gives_nothing(spec, split, lengths)]

    def _without(self, tasks: Iterable[str]) -> seqio.Mixture:
        """This mixture less some tasks; the others weigh what they weighed."""
        left = copy.copy(self)
        gone = set(tasks)
        left.__dict__["_selected"] = [one for one in self._selected if one.task not in gone]
        left.__dict__["_empty"] = lambda lengths, split: []
        left.__dict__["_rates"] = {n: r for n, r in self._rates.items() if n not in gone}
        return left

    @property
    def rate_per_task_name(self) -> Mapping[str, float]:
        return self._rates

    @property
    def total_rate(self) -> float:
        return sum(self._rates.values())

    def get_rate(self, task: seqio.Task) -> float:
        return self._rates.get(task.name, 0.0)


@functools.cache
def _output_features(vocabulary: str | None) -> dict[str, seqio.Feature]:
    late = LateVocabulary(vocabulary)
    return {name: seqio.Feature(vocabulary=late, add_eos=True) for name in ("inputs", "targets")}


def _ranks(metric: str) -> bool:
    """Whether a metric needs the scores of options, which SeqIO's metric functions are not given."""
    return getattr(import_by_name.load(metric, METRIC), "needs", None) == "option_scores"


@functools.cache
def _metric(name: str) -> Callable[..., Any]:
    def metric(targets: Sequence[Any], predictions: Sequence[Any]) -> Mapping[str, float]:
        return import_by_name.load(name, METRIC)(targets, predictions)

    metric.__name__ = name.rpartition(":")[2]
    return metric


@functools.cache
def _postprocess_with(name: str | None) -> Callable[..., Any]:
    """Predictions to answers, and targets to all their references, as the metrics take them."""

    def postprocess(
        output: Any, example: Mapping[str, Any] | None = None, is_target: bool = False, **_: Any
    ) -> Any:
        clean = str if name is None else import_by_name.load(name, POSTPROCESSOR)
        if not is_target:
            return clean(_text(output))
        known = (example or {}).get("references")
        return [clean(_text(one)) for one in (known if known is not None else [output])]

    return postprocess


def _text(value: Any) -> str:
    if isinstance(value, tf.Tensor):
        value = value.numpy()
    return value.decode() if isinstance(value, bytes) else str(value)
