"""One mixture of ready tokens as flanx, SeqIO and grain make packed batches of it; for the benchmarks beside it.

All three read the same token stores, of lengths spread as those of Natural Instructions are. SeqIO gets them as
in-memory tensors of token ids and grain as in-memory arrays, so neither is charged for reading or tokenising.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from input_wait import write_mixture

from flanx.data import manifest as manifests
from flanx.data.loader import Loader
from flanx.data.manifest import Manifest

MANIFEST = "manifest.json"
PACKING_BINS = 64  # rows that grain fills at a time


def write(folder: Path, tasks: int, examples: int, lengths: dict[str, int]) -> None:
    """Token stores and their manifest."""
    write_mixture(folder, tasks, examples, lengths).save(folder / MANIFEST)


def first(folder: Path, tasks: int) -> Manifest:
    whole = manifests.load(folder / MANIFEST)
    return dataclasses.replace(whole, entries=whole.entries[:tasks])


def flanx_batches(
    folder: Path, tasks: int, lengths: dict[str, int], batch_size: int
) -> Iterator[int]:
    """Yields the number of examples of each batch, as the next two do."""
    loader = Loader(
        first(folder, tasks), folder, batch_size=batch_size, feature_lengths=lengths, seed=0
    )
    for batch in loader:
        yield batch.num_examples


def seqio_batches(
    folder: Path, tasks: int, lengths: dict[str, int], batch_size: int
) -> Iterator[int]:
    """`seqio.get_dataset` with `EncDecFeatureConverter(pack=True)`."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import seqio
    import tensorflow as tf

    def ragged(store: Any, name: str) -> Any:
        values, offsets = store.feature(name)
        return tf.RaggedTensor.from_row_splits(values.astype(np.int32), offsets, validate=False)

    def source(entry: manifests.Entry) -> Any:
        def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> Any:
            store = entry.open(folder)
            return tf.data.Dataset.from_tensor_slices(
                {name: ragged(store, name) for name in ("inputs", "targets")}
            )

        return dataset

    vocabulary = seqio.PassThroughVocabulary(32128)
    feature = seqio.Feature(vocabulary, add_eos=False, dtype=tf.int32)
    entries = first(folder, tasks).entries
    for entry in entries:
        seqio.TaskRegistry.add(
            entry.task.replace(".", "_"),
            source=seqio.FunctionDataSource(
                source(entry), splits=["train"], num_input_examples={"train": entry.examples}
            ),
            preprocessors=[],
            output_features={"inputs": feature, "targets": feature},
        )
    names = [entry.task.replace(".", "_") for entry in entries]
    seqio.MixtureRegistry.add("bench_peer", names, default_rate=1.0)
    dataset = seqio.get_dataset(
        "bench_peer",
        task_feature_lengths=lengths,
        dataset_split="train",
        shuffle=True,
        num_epochs=None,
        seed=0,
        feature_converter=seqio.EncDecFeatureConverter(pack=True),
    )
    for batch in dataset.batch(batch_size).as_numpy_iterator():
        yield int(batch["decoder_segment_ids"].max(axis=1).sum())


def grain_batches(
    folder: Path, tasks: int, lengths: dict[str, int], batch_size: int
) -> Iterator[int]:
    """`MapDataset.mix` of shuffled, repeated sources, first-fit packing, batches."""
    import grain
    from grain import experimental

    def source(entry: manifests.Entry) -> list[dict[str, np.ndarray]]:
        store = entry.open(folder)
        return [
            {
                "inputs": store.inputs(i).astype(np.int32),
                "targets": store.targets(i).astype(np.int32),
            }
            for i in range(store.num_examples)
        ]

    sources = [
        grain.MapDataset.source(source(entry)).shuffle(seed=number).repeat()
        for number, entry in enumerate(first(folder, tasks).entries)
    ]
    mixed = grain.MapDataset.mix(sources).to_iter_dataset(grain.ReadOptions(num_threads=0))
    packed = experimental.FirstFitPackIterDataset(
        mixed, length_struct=lengths, num_packing_bins=PACKING_BINS
    )
    for batch in packed.batch(batch_size):
        yield int(batch["targets_segment_ids"].max(axis=1).sum())


MAKERS = {"flanx": flanx_batches, "seqio": seqio_batches, "grain": grain_batches}
