"""How many rows a second each filter of `flanx cache` judges, in one process, beside the obvious way in Python.

    python benchmarks/filter_speed.py [DATA_DIR] [--rows 200000] [--peer_rows 20000]

Rows are generated (60 words on average; of twenty, one is a copy of an earlier one and one nearly so) and, with a
DATA_DIR that holds Natural Instructions, the instances of `niv2.train` stand in front. The peers see the last
`peer_rows` of them: for near duplicates datasketch's MinHash and MinHashLSH, row by row, with the same n-grams, bands
and permutations; for exact duplicates a set of texts; for overlap a set of 13-tuples of words, its making included; for
languages py3langid alone. Prints one JSON line; every `gain` is flanx's rows a second over the peer's, `find_mb` what
the search over all rows added to memory at most.
"""

import argparse
import json
import os
import platform
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from datasketch import MinHash, MinHashLSH

from flanx import registry
from flanx.data.filters import Decontaminate, ExactDuplicates, Filter, Language, NearDuplicates
from flanx.prep.filtering import content, duplicates, overlap_index, row_filters, sketching
from flanx.prep.filtering.content import Content
from flanx.prep.filtering.example import Example
from flanx.prep.filtering.ngrams import words
from flanx.prep.filtering.sketch import Sketch

EVALUATION_ROWS = 5000
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", nargs="?", help="folder with Natural Instructions")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--peer_rows", type=int, default=20_000)
    args = parser.parse_args()
    rows = list(_rows(args.rows, args.data_dir))
    few = rows[-args.peer_rows :]
    figure = {
        "benchmark": "filter_speed",
        "rows": len(rows),
        "words_a_row": round(float(np.mean([len(words(_text(row))) for row in few])), 1),
        "peer_rows": len(few),
        "exact": _exact(rows, few),
        "near": _near(rows, few),
        "overlap": _overlap(few),
        "language": _language(few),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one used",
    }
    print(json.dumps(figure))


def _rows(count: int, data_dir: str | None) -> Iterator[Content]:
    made = 0
    if data_dir is not None:
        registry.load_for("niv2.train")
        seen = set()
        for one in registry.resolve("niv2.train", data_dir=data_dir):
            if one.spec is not None and one.dataset not in seen:
                seen.add(one.dataset)
                reader = content.reader(one.spec, "train", data_dir)
                for _, fields in reader.rows("train", data_dir):
                    yield reader.content(fields)
                    made += 1
    yield from _generated(max(count - made, 0))


def _generated(count: int, seed: int = 0) -> Iterator[Content]:
    """Rows of words by Zipf's law; of ten, one is nearly a copy, or a copy, of an earlier one."""
    draw = random.Random(seed)
    vocabulary = [f"word{i}" for i in range(20_000)]
    weights = np.cumsum(1 / np.arange(10, 20_010)).tolist()
    earlier: list[list[str]] = []
    for number in range(count):
        if earlier and number % 10 == 0:
            text = list(draw.choice(earlier))
            if number % 20:
                text[draw.randrange(len(text))] = draw.choice(vocabulary)
        else:
            size = draw.randint(20, 100)
            text = draw.choices(vocabulary, cum_weights=weights, k=size)
        if number < 50_000:
            earlier.append(text)
        yield Content((" ".join(text),), (f"label{len(text) % 3}",))


def _text(row: Content) -> str:
    return "\n".join((*row.inputs, *row.targets))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _searched(rows: Sequence[Content], one: Filter) -> dict[str, float]:
    """Rows a second of sketching and of the search, how many rows go, and megabytes of the search."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sketch.arrow"
        numbered = list(enumerate(rows))
        sketching_s, _ = _timed(lambda: sketching.write(path, numbered, [one]))
        size = path.stat().st_size
        before = _peak_mb()
        sketch = Sketch(path)
        whole = duplicates.MixtureRows([sketch], [np.ones(len(rows), np.bool_)])
        finding_s, found = _timed(lambda: duplicates.find(whole, [one]))
        (gone,) = found.values()
    return {
        "sketch_rows_per_second": round(len(rows) / sketching_s),
        "find_rows_per_second": round(len(rows) / finding_s),
        "rows_per_second": round(len(rows) / (sketching_s + finding_s)),
        "found": len(gone),
        "find_mb": round(max(_peak_mb() - before, 0.0)),
        "sketch_bytes_a_row": round(size / len(rows)),
    }


def _exact(rows: Sequence[Content], few: Sequence[Content]) -> dict[str, float]:
    def peer() -> int:
        seen: set[tuple[str, ...]] = set()
        for row in few:
            seen.add(tuple(" ".join(text.split()) for text in (*row.inputs, *row.targets)))
        return len(few) - len(seen)

    own = _searched(rows, ExactDuplicates())
    seconds, _ = _timed(peer)
    rate = len(few) / seconds
    return {
        **own,
        "peer_rows_per_second": round(rate),
        "gain": round(own["rows_per_second"] / rate, 3),
    }


def _near(rows: Sequence[Content], few: Sequence[Content]) -> dict[str, float]:
    one = NearDuplicates()
    cut = sketching.bands(one)

    def peer() -> int:
        lsh = MinHashLSH(num_perm=one.permutations, params=(cut.count, cut.rows))
        found = 0
        for number, row in enumerate(few):
            spelt = words(_text(row))
            grams = {
                " ".join(spelt[i : i + one.words]).encode()
                for i in range(len(spelt) - one.words + 1)
            }
            signature = MinHash(num_perm=one.permutations, scheme="affine32")
            signature.update_batch(grams)
            if lsh.query(signature):
                found += 1
            else:
                lsh.insert(number, signature)
        return found

    own = _searched(rows, one)
    seconds, found = _timed(peer)
    rate = len(few) / seconds
    return {
        **own,
        "found_in_peer_rows": _searched(few, one)["found"],
        "peer_candidates": found,
        "peer_rows_per_second": round(rate),
        "gain": round(own["rows_per_second"] / rate, 2),
    }


def _overlap(few: Sequence[Content]) -> dict[str, float]:
    settings = Decontaminate(against=("evaluation",))
    texts = [_text(row) for row in few]
    evaluation = [_text(row) for row in _generated(EVALUATION_ROWS, seed=1)] + texts[::100]
    n = settings.words

    def own() -> int:
        index = overlap_index.Index(
            overlap_index.evidence([[text] for text in evaluation], settings)
        )
        return sum(map(index.meets, texts))

    def peer() -> int:
        known = {gram for text in evaluation for gram in _tuples(words(text), n)}
        return sum(any(gram in known for gram in _tuples(words(text), n)) for text in texts)

    seconds, found = _timed(own)
    peer_seconds, peer_found = _timed(peer)
    return {
        "rows_per_second": round(len(texts) / seconds),
        "found": found,
        "peer_rows_per_second": round(len(texts) / peer_seconds),
        "peer_found": peer_found,
        "gain": round(peer_seconds / seconds, 2),
    }


def _tuples(spelt: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return (tuple(spelt[i : i + n]) for i in range(len(spelt) - n + 1))


def _language(few: Sequence[Content]) -> dict[str, float]:
    one = Language()
    identifier = row_filters.language_identifier()
    texts = [_text(row) for row in few[:2000]]

    def own() -> int:
        examples = (Example("", "", 0, text, "", 0, 0) for text in texts)
        judge = row_filters.language_judge(one, lambda example: Content((example.inputs,), ()))
        return sum(judge(example) is not None for example in examples)

    seconds, _ = _timed(own)
    peer_seconds, _ = _timed(lambda: [identifier.classify(text) for text in texts])
    return {
        "rows_per_second": round(len(texts) / seconds),
        "peer_rows_per_second": round(len(texts) / peer_seconds),
        "gain": round(peer_seconds / seconds, 2),
    }


if __name__ == "__main__":
    main()
