"""How full rows get at Natural Instructions lengths, 1024/256, beside grain and SeqIO. Prints one JSON line.

    python benchmarks/packing_fill.py
    python benchmarks/packing_fill.py --natural_instructions FOLDER --vocabulary spiece.model

Each packs the same examples, in the order of the unpacked stream: flanx as it trains, grain's first-fit over so
many open rows, SeqIO's `trim_and_pack_dataset`. Lengths are log-normal as those of Natural Instructions are, or with
`--natural_instructions` those of its task files (definition, input and first output), tokenised.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from flanx.data.packing import fill
from flanx.data.stream import Stream

LENGTHS = {"inputs": 1024, "targets": 256}
CAPACITY = list(LENGTHS.values())


def stand_in(tasks: int, examples: int) -> list[np.ndarray]:
    """int[n, 2] for each task."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(tasks):
        inputs = np.clip(np.exp(draw.normal(5.15, 0.68, examples)), 8, CAPACITY[0])
        targets = np.clip(np.exp(draw.normal(1.7, 1.1, examples)), 2, CAPACITY[1])
        found.append(np.stack([inputs, targets], axis=1).astype(np.int64))
    return found


def of_natural_instructions(folder: Path, vocabulary_spec: str) -> list[np.ndarray]:
    from flanx.data import vocabulary

    words = vocabulary.load(vocabulary_spec)
    found = []
    for file in sorted(folder.rglob("task*.json")):
        task = json.loads(file.read_text())
        definition = task["Definition"]
        head = definition[0] if isinstance(definition, list) else definition
        rows = task["Instances"]
        inputs = words.encode_batch([f"{head}\n\n{row['input']}" for row in rows])
        targets = words.encode_batch([row["output"][0] for row in rows])
        pairs = [(len(i) + 1, len(t) + 1) for i, t in zip(inputs, targets, strict=True)]
        found.append(np.minimum(pairs, CAPACITY))
    return found


def stream_of(lengths: list[np.ndarray], pack: bool) -> Stream:
    entries = [
        SimpleNamespace(task=f"t{number}", examples=len(rows), rate=float(len(rows)))
        for number, rows in enumerate(lengths)
    ]

    def open_store(index: int) -> Any:
        features = {}
        for feature, name in enumerate(LENGTHS):
            offsets = np.concatenate([[0], np.cumsum(lengths[index][:, feature])])
            features[name] = (np.zeros(offsets[-1], np.uint16), offsets)
        size = len(lengths[index])
        return SimpleNamespace(
            num_examples=size, example_ids=np.arange(size), feature=features.__getitem__
        )

    return Stream(entries, open_store, feature_lengths=LENGTHS, seed=0, block_size=2048, pack=pack)


def by_flanx(lengths: list[np.ndarray], blocks: int) -> int:
    stream = stream_of(lengths, pack=True)
    return sum(len(stream.block(block)) for block in range(blocks))


def examples(order: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for sizes in order.tolist():
        yield {name: np.ones(size, np.int32) for name, size in zip(LENGTHS, sizes, strict=True)}


def by_grain(order: np.ndarray, bins: int) -> int:
    import grain
    from grain import experimental

    source = grain.MapDataset.source(list(examples(order)))
    packed = experimental.FirstFitPackIterDataset(
        source.to_iter_dataset(grain.ReadOptions(num_threads=0)),
        length_struct=LENGTHS,
        num_packing_bins=bins,
    )
    return sum(1 for row in packed if row["targets_segment_ids"].any())


def by_seqio(order: np.ndarray) -> int:
    import seqio
    import tensorflow as tf

    spec = tf.TensorSpec((None,), tf.int32)
    dataset = tf.data.Dataset.from_generator(
        lambda: examples(order), output_signature=dict.fromkeys(LENGTHS, spec)
    )
    return sum(1 for _ in seqio.utils.trim_and_pack_dataset(dataset, LENGTHS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=10, help="of 2,048 examples")
    parser.add_argument("--tasks", type=int, default=171, help="of the stand-in")
    parser.add_argument("--natural_instructions", type=Path, help="folder of its task files")
    parser.add_argument("--vocabulary", default="bytes", help="for --natural_instructions")
    parser.add_argument("--bins", type=int, nargs="+", default=[32, 64, 512])
    options = parser.parse_args()
    sources = {"log-normal stand-in": stand_in(options.tasks, 130)}
    if options.natural_instructions:
        real = of_natural_instructions(options.natural_instructions, options.vocabulary)
        sources["Natural Instructions"] = real
    result: dict[str, Any] = {"benchmark": "packing_fill", "lengths": LENGTHS}
    for name, lengths in sources.items():
        result[name] = measure(lengths, options.blocks, options.bins)
    result["goal"] = {"inputs": 0.985, "joint": "above grain's first-fit"}
    result["machine"] = platform.processor() or platform.machine()
    print(json.dumps(result))


def measure(lengths: list[np.ndarray], blocks: int, bins: list[int]) -> dict[str, Any]:
    unpacked = stream_of(lengths, pack=False)
    order = np.concatenate([unpacked.block(block).lengths for block in range(blocks)])
    ways = {"flanx": lambda: by_flanx(lengths, blocks)}
    ways |= {f"grain first-fit, {n} rows": lambda n=n: by_grain(order, n) for n in bins}
    ways["seqio"] = lambda: by_seqio(order)
    found: dict[str, Any] = {"examples": len(order), "mean_lengths": order.mean(axis=0).tolist()}
    for way, pack in ways.items():
        begun = time.perf_counter()
        rows = pack()
        inputs, targets = fill(order, CAPACITY, rows).tolist()
        found[way] = {
            "rows": rows,
            "inputs": round(inputs, 4),
            "targets": round(targets, 4),
            "joint": round(float(order.sum() / (rows * sum(CAPACITY))), 4),
            "seconds": round(time.perf_counter() - begun, 2),
        }
    best = max(found[way]["joint"] for way in ways if way.startswith("grain"))
    found["joint_over_grain"] = round(found["flanx"]["joint"] / best, 4)
    return found


if __name__ == "__main__":
    main()
