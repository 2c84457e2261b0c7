"""Examples of a bare SeqIO task, one that other code registered: SeqIO renders and tokenises, flanx stores.

The only module of flanx.prep that imports SeqIO and TensorFlow, and only when one of its functions is called.
"""

import contextlib
import glob
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from flanx.data.store import FEATURES, Example
from flanx.data.vocabulary import Vocabulary
from flanx.data.vocabulary.coverage import coverage
from flanx.errors import UserError, did_you_mean
from flanx.prep.filtering.row_filters import RowFilters
from flanx.prep.render_stats import EMPTY_TARGET, RenderStats
from flanx.registry.seqio.external_tasks import readable
from flanx.registry.sources.file_hashes import file_hash
from flanx.user_code.code_hash import code_files, code_hash

if TYPE_CHECKING:
    import seqio

    from flanx.prep.work_item import WorkItem

# In the key of every store of a task that other code registered with SeqIO. Raise it when the same SeqIO examples are
# stored as other tokens or texts, dropped, cut or counted otherwise. `render_stats` belongs to it.
VERSION = 1


def examples(
    item: "WorkItem", vocabulary: Vocabulary, stats: RenderStats, filters: RowFilters | None = None
) -> Iterator[Example]:
    """The split as `task.get_dataset(lengths, split, shuffle=False)` gives it, except for what is too long.

    Ids are as the task's own preprocessors left them, EOS or no EOS. A feature that is longer than its length is cut
    and counted, and ends in EOS where the SeqIO feature has `add_eos`.

    Args:
      item: the SeqIO task's name, split and lengths.
      vocabulary: the one the task was checked to agree with; decodes texts that the task does not carry.
      stats: filled with what is dropped and clipped.
      filters: filters, which see the tokens without EOS and the texts in place of fields.
    """
    task = get(item.task)
    if item.split not in task.splits:
        raise UserError(
            f"SeqIO task '{item.task}' has no split '{item.split}', only {', '.join(task.splits)}"
        )
    ends = {
        name: vocabulary.eos_id if feature.add_eos else None
        for name, feature in task.output_features.items()
    }
    lengths = {name: n for name, n in item.lengths.items() if name in ends}
    task, cached = readable(task)
    covered = coverage(vocabulary)
    dataset = task.get_dataset(
        sequence_length=lengths,
        split=item.split,
        shuffle=False,
        use_cached=cached,
        seed=item.seed,
        trim_output_features=False,
    )
    if item.max_examples is not None:
        dataset = dataset.take(item.max_examples)
    for index, row in enumerate(dataset.as_numpy_iterator()):
        tokens = {name: row[name].tolist() if name in ends else [] for name in FEATURES}
        if not any(t != ends.get("targets") for t in tokens["targets"]):
            stats.dropped[EMPTY_TARGET] += 1
            continue
        texts = {name: _text(row, name, tokens[name], vocabulary) for name in FEATURES}
        if filters is not None:
            sizes = [
                len(tokens[name]) - (tokens[name][-1:] == [ends.get(name)]) for name in FEATURES
            ]
            options = _strings(row.get("options"))
            why = filters.reason(
                index, texts["inputs"], texts["targets"], (sizes[0], sizes[1]), options=options
            )
            if why is not None:
                stats.dropped[why] += 1
                continue
        stats.kept += 1
        stats.unwritable.update(covered.lost(_given(row)))
        fitted = {}
        for name in FEATURES:
            full = len(tokens[name]) == item.lengths[name]
            whole = _length_before(row, name, tokens[name], vocabulary) if full else None
            fitted[name] = stats.fit(name, tokens[name], ends.get(name), whole)
        yield Example(
            inputs=fitted["inputs"],
            targets=fitted["targets"],
            example_id=index,
            inputs_text=texts["inputs"],
            targets_text=(texts["targets"],),
            options=_strings(row.get("options")),
        )


def get(name: str) -> "seqio.Task":
    """The SeqIO task of that name.

    Raises:
      UserError: there is none, or it has no `targets` feature.
    """
    seqio = _seqio()
    if name not in seqio.TaskRegistry.names():
        raise UserError(
            f"SeqIO has no task '{name}' in this process{did_you_mean(name, seqio.TaskRegistry.names())}"
            "; name the module that registers it with --import"
        )
    task = seqio.TaskRegistry.get(name)
    if "targets" not in task.output_features:
        raise UserError(
            f"SeqIO task '{name}' has features {', '.join(task.output_features)}, but no 'targets'"
        )
    return task


def vocabulary_spec(name: str) -> str:
    """The task's own vocabulary as a spec for `flanx.data.vocabulary.load`.

    Raises:
      UserError: its features have different vocabularies, or one that flanx does not read.
    """
    seqio = _seqio()
    from flanx.registry.seqio_huggingface import HuggingFaceVocabulary

    specs = {}
    for feature_name, feature in get(name).output_features.items():
        if feature_name not in FEATURES:
            continue
        own = feature.vocabulary
        if isinstance(own, seqio.SentencePieceVocabulary):
            path = own.sentencepiece_model_file
            specs[feature_name] = f"{path}?extra_ids={own.extra_ids}"
        elif isinstance(own, seqio.ByteVocabulary):
            specs[feature_name] = f"bytes?extra_ids={own.extra_ids}"
        elif isinstance(own, HuggingFaceVocabulary):
            specs[feature_name] = own.spec
        else:
            raise UserError(
                f"SeqIO task '{name}': feature '{feature_name}' has a {type(own).__name__}; flanx reads "
                "SentencePieceVocabulary, ByteVocabulary and flanx.registry.seqio_huggingface.HuggingFaceVocabulary"
            )
    if len(set(specs.values())) > 1:
        raise UserError(f"SeqIO task '{name}': inputs and targets have different vocabularies")
    return specs["targets"]


def files(name: str, split: str) -> list[str]:
    """Local files that the split depends on: the task's code and, where the source tells, its data."""
    task = get(name)
    return [*code_files(list(task.preprocessors), task.source), *_data_files(task, split)]


def fingerprint(name: str, split: str) -> dict[str, Any]:
    """What decides the task's examples, as far as a SeqIO task tells: code, source, data files."""
    task = get(name)
    return {
        "seqio_task": name,
        "preprocessors": code_hash(list(task.preprocessors)),
        "source": f"{type(task.source).__name__} {code_hash(_settings(task.source))}",
        "files": [file_hash(path) for path in _data_files(task, split)],
    }


def _settings(source: Any) -> dict[str, Any]:
    """A source's own fields: file patterns, TFDS name and version, functions; without its counts."""
    fields = {k: v for k, v in vars(source).items() if k not in ("_num_input_examples", "_splits")}
    loader = fields.pop("_tfds_dataset", None)
    if loader is not None:
        fields["tfds"] = str(loader.name)
    return fields


def _data_files(task: "seqio.Task", split: str) -> list[str]:
    try:
        if readable(task)[1]:
            return _cached_files(task, split)
        shards = task.source.list_shards(split)
    except Exception:  # a data set that is not downloaded yet has no files to list
        return []
    return sorted(path for path in map(str, shards) if os.path.isfile(path))


def _cached_files(task: "seqio.Task", split: str) -> list[str]:
    """What SeqIO's own cache holds of a task that must be read from there."""
    prefix = _seqio().get_cached_tfrecord_prefix(task.cache_dir, split)
    return sorted(glob.glob(f"{glob.escape(prefix)}*"))


def _length_before(
    row: Mapping[str, Any], name: str, tokens: list[int], vocabulary: Vocabulary
) -> int | None:
    """Tokens of a feature before the task's own preprocessors cut it (append_eos_after_trim, say); None if not cut.

    Told by the text before tokenising, where the tokens are the beginning of that: spans of a text that is pre-trained
    on are as long as they are meant to be.
    """
    text = row.get(f"{name}_pretokenized")
    if not isinstance(text, bytes):
        return None
    ids = vocabulary.encode(text.decode("utf-8", "replace"))
    return len(ids) + 1 if ids[: len(tokens) - 1] == tokens[:-1] else None


def _text(row: Mapping[str, Any], name: str, tokens: list[int], vocabulary: Vocabulary) -> str:
    text = row.get(f"{name}_pretokenized")
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else vocabulary.decode(tokens)


def _given(row: Mapping[str, Any]) -> Iterator[str]:
    """The texts before tokenising, as far as the task carries them: decoded tokens have lost what they lose."""
    for name in FEATURES:
        text = row.get(f"{name}_pretokenized")
        if isinstance(text, bytes):
            yield text.decode("utf-8", "replace")


def _strings(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, np.ndarray) or value.ndim != 1 or value.dtype != object:
        return None
    return tuple(v.decode("utf-8", "replace") for v in value)


def _seqio() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import seqio
    import tensorflow as tf

    # Data preparation must not take the accelerator's memory; too late if somebody initialised TensorFlow.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")
    return seqio
