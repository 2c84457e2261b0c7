"""Seconds to go on from any stored place, and whether the stream stays the same. Prints one JSON line.

    python benchmarks/seek.py

1,836 tasks of 200 examples. A seek is a new `Loader` with nothing opened yet, from a state somewhere in the first
million blocks, to its first batch in hand. The stream is compared, byte by byte, for 1, 2, 4 and 8 hosts, and with one
that was stopped fifty times at random. The peer is SeqIO's packed pipeline at 10 tasks, which gets to a place by making
all batches before it: `seqio_seconds` is for batch `--batches`, counted from its first batch.
"""

import argparse
import hashlib
import itertools
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import stream_peers

from flanx.data.loader import Batch, Loader, LoaderState
from flanx.data.manifest import Manifest

LENGTHS = {"inputs": 2048, "targets": 512}
BATCH_SIZE = 32


def loader(manifest: Manifest, folder: Path, state: LoaderState, **hosts: int) -> Loader:
    return Loader(
        manifest,
        folder,
        batch_size=BATCH_SIZE,
        feature_lengths=LENGTHS,
        seed=0,
        state=state,
        **hosts,
    )


def seeks(manifest: Manifest, folder: Path, count: int) -> list[float]:
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        state = LoaderState(int(draw.integers(1_000_000)), int(draw.integers(100)))
        begun = time.perf_counter()
        next(iter(loader(manifest, folder, state)))
        found.append(time.perf_counter() - begun)
    return found


def digest(batches: Iterator[list[Batch]]) -> str:
    """Of global batches, given as their hosts' parts."""
    found = hashlib.blake2b(digest_size=8)
    for parts in batches:
        for name in parts[0].arrays:
            found.update(np.concatenate([part.arrays[name] for part in parts]).tobytes())
        found.update(json.dumps(parts[0].state_after.to_json()).encode())
    return found.hexdigest()


def of_hosts(manifest: Manifest, folder: Path, hosts: int, batches: int) -> str:
    begin = LoaderState()
    parts = [
        iter(loader(manifest, folder, begin, host_index=host, host_count=hosts))
        for host in range(hosts)
    ]
    return digest([next(part) for part in parts] for _ in range(batches))


def of_stops(manifest: Manifest, folder: Path, stops: int, batches: int) -> str:
    draw = np.random.default_rng(1)
    chosen = sorted(draw.choice(np.arange(1, batches), stops, replace=False).tolist())

    def resumed() -> Iterator[list[Batch]]:
        state = LoaderState()
        for start, stop in itertools.pairwise([0, *chosen, batches]):
            for batch in itertools.islice(loader(manifest, folder, state), stop - start):
                yield [batch]
                state = LoaderState.from_json(batch.state_after.to_json())

    return digest(resumed())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1836)
    parser.add_argument("--examples", type=int, default=200, help="of each task")
    parser.add_argument("--seeks", type=int, default=20)
    parser.add_argument("--batches", type=int, default=120)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream_peers.write(folder, options.tasks, options.examples, LENGTHS)
        manifest = stream_peers.first(folder, options.tasks)
        found = seeks(manifest, folder, options.seeks)
        hosts = {of_hosts(manifest, folder, count, options.batches) for count in (1, 2, 4, 8)}
        stopped = of_stops(manifest, folder, 50, options.batches)
        seqio = stream_peers.seqio_batches(folder, min(10, options.tasks), LENGTHS, BATCH_SIZE)
        next(seqio)
        begun = time.perf_counter()
        for _ in range(options.batches):
            next(seqio)
        replayed = time.perf_counter() - begun
    print(
        json.dumps(
            {
                "benchmark": "seek",
                "tasks": options.tasks,
                "median_seconds": round(float(np.median(found)), 3),
                "most_seconds": round(max(found), 3),
                "seeks": options.seeks,
                "same_for_1_2_4_8_hosts": len(hosts) == 1,
                "same_after_50_stops": hosts == {stopped},
                "seqio_seconds": round(replayed, 2),
                "seqio_batches": options.batches,
                "ratio": round(replayed / float(np.median(found)), 1),
                "goal": {"most_seconds": 0.5},
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
