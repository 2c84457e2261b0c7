"""Batches made on one core: examples a second, and how flat that is over the number of tasks. Prints one JSON line.

    python benchmarks/loader_speed.py

Each number of tasks has 200 examples a task. `same_corpus` has as many examples as the most tasks in as few tasks as
the least: what more data costs, rather than more tasks. SeqIO's and grain's own pipelines run as processes on the same
core; both get tokens in memory (stream_peers.py), so tokenising is charged to none. Seconds are of processor time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import stream_peers

LENGTHS = {"inputs": 2048, "targets": 512}
BATCH_SIZE = 32


def rates(mixtures: dict[str, tuple[Path, int]], rounds: int, seconds: float) -> dict[str, float]:
    """Examples a second of flanx: the median of rounds in which the mixtures take turns."""
    streams = {
        name: stream_peers.flanx_batches(folder, tasks, LENGTHS, BATCH_SIZE)
        for name, (folder, tasks) in mixtures.items()
    }
    for stream in streams.values():
        warm_up(stream, 400)
    found: dict[str, list[float]] = {name: [] for name in streams}
    for _ in range(rounds):
        for name, stream in streams.items():
            found[name].append(rate(stream, seconds))
    return {name: statistics.median(of_one) for name, of_one in found.items()}


def warm_up(stream, batches: int) -> None:
    for _ in range(batches):
        next(stream)


def rate(stream, seconds: float) -> float:
    examples = 0
    begun = time.process_time()  # of all threads: what others do on the machine hardly counts
    while (elapsed := time.process_time() - begun) < seconds:
        examples += next(stream)
    return examples / elapsed


def peer(name: str, folder: Path, tasks: int, seconds: float) -> float:
    """Examples a second of one peer, in a process of its own, once it runs warm."""
    command = [sys.executable, __file__, "--peer", name, "--folder", str(folder)]
    command += ["--peer_tasks", str(tasks), "--seconds", str(seconds)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(ran.stdout.split()[-1])


def run_peer(name: str, folder: Path, tasks: int, seconds: float) -> None:
    stream = stream_peers.MAKERS[name](folder, tasks, LENGTHS, BATCH_SIZE)
    warm_up(stream, 10)
    print(rate(stream, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=[10, 100, 1836])
    parser.add_argument("--examples", type=int, default=200, help="of each task")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round; x15 for a peer")
    parser.add_argument("--peer_tasks", type=int, default=10, help="the fewer, the faster SeqIO is")
    parser.add_argument("--peer", choices=stream_peers.MAKERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.peer:
        run_peer(options.peer, options.folder, options.peer_tasks, options.seconds)
        return
    with tempfile.TemporaryDirectory() as name:
        many, few = Path(name, "many"), Path(name, "few")
        most, least = max(options.tasks), min(options.tasks)
        stream_peers.write(many, most, options.examples, LENGTHS)
        stream_peers.write(few, least, options.examples * most // least, LENGTHS)
        mixtures = {str(tasks): (many, tasks) for tasks in options.tasks}
        mixtures["same_corpus"] = (few, least)
        found = rates(mixtures, options.rounds, options.seconds)
        long = 15 * options.seconds
        seqio = peer("seqio", many, options.peer_tasks, long)
        grain = {
            str(tasks): peer("grain", many, tasks, long) for tasks in (options.peer_tasks, most)
        }
    slowest = min(found[str(tasks)] for tasks in options.tasks)
    print(
        json.dumps(
            {
                "benchmark": "loader_speed",
                "lengths": LENGTHS,
                "batch_size": BATCH_SIZE,
                "cores": 1,
                "examples_per_second": {n: round(of_one) for n, of_one in found.items()},
                "slowest_over_fastest": round(
                    slowest / max(found[str(tasks)] for tasks in options.tasks), 3
                ),
                f"{most}_tasks_over_{least}_of_the_same_corpus": round(
                    found[str(most)] / found["same_corpus"], 3
                ),
                "seqio_examples_per_second": round(seqio),
                "seqio_tasks": options.peer_tasks,
                "ratio_to_seqio": round(slowest / seqio, 1),
                "grain_examples_per_second": {n: round(of_one) for n, of_one in grain.items()},
                "ratio_to_grain": round(found[str(most)] / grain[str(most)], 1),
                "charged": "mixing, shuffling, packing, padded batches; no reading from disk, no tokenising",
                "goal": {"ratio_to_seqio": 50, "slowest_over_fastest": 0.9},
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
