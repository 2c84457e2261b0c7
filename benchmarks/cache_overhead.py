"""What a task costs beyond its examples, when there are as many as Flan 2022 has: 1,836 tasks in two types each.

    python benchmarks/cache_overhead.py

Caches a generated collection of --tasks tasks of --rows rows (zero- and few-shot, so twice as many stores; see
cache_collection.py), and the same number of rows as --few tasks, both with the whole command `flanx cache` and one
worker. The difference over the difference in stores is the overhead: files, keys, manifest, disk. Few-shot exemplars
come from the task's own rows, of which there are more where tasks are few; the pool of either is at most 2,048.
`minutes` is the time for all with --workers processes. The peer is SeqIO's own caching, `seqio_cache_tasks` on Beam's
local runner: it builds one pipeline of all tasks, so it is run on --peer_tasks and on twice as many, zero-shot, and the
difference taken a task (examples included, which are `seqio.rows` each).

Prints one JSON line; `ratio` is SeqIO's seconds for a further task of --rows rows over flanx's.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cache_collection
from cache_collection import MODULE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1836)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--few", type=int, default=12)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peer_tasks", type=int, default=8)
    args = parser.parse_args()
    rows = args.tasks * args.rows // args.few
    with tempfile.TemporaryDirectory() as name:
        many, few = Path(name) / "many", Path(name) / "few"
        cache_collection.write(many, tasks=args.tasks, rows=args.rows)
        cache_collection.write(few, tasks=args.few, rows=rows)
        seconds_many = _cache(many, 1)
        seconds_few = _cache(few, 1)
        seconds_again = _cache(many, 1, fresh=False)
        seconds_all = _cache(many, args.workers)
        examples = _examples(many)
        seqio = _seqio(Path(name), args) if args.peer_tasks else None
    stores = 2 * (args.tasks - args.few)
    figure: dict[str, Any] = {
        "benchmark": "cache_overhead",
        "milliseconds_a_task": round(1000 * (seconds_many - seconds_few) / stores, 2),
        "seconds_many_tasks": round(seconds_many, 1),
        "seconds_few_tasks": round(seconds_few, 1),
        "seconds_when_done": round(seconds_again, 2),
        "minutes": round(seconds_all / 60, 2),
        "workers": args.workers,
        "stores": 2 * args.tasks,
        "few_stores": 2 * args.few,
        "examples": examples,
        "rows_a_task": args.rows,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    if seqio is not None:
        own = seconds_many / (2 * args.tasks)
        figure["seqio"] = seqio
        figure["ratio"] = round(seqio["seconds_a_further_task"] / own, 1)
    print(json.dumps(figure))


def _cache(folder: Path, workers: int, fresh: bool = True) -> float:
    """Seconds of the whole command."""
    if fresh:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    request = {
        "mixture": "many.*",
        "imports": [MODULE],
        "feature_lengths": {"inputs": 1024, "targets": 256},
        "cache_dir": str(folder / "cache"),
    }
    (folder / "request.json").write_text(json.dumps([request]))
    command = [sys.executable, "-m", "flanx", "cache", "--requests", str(folder / "request.json")]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True,
        env=cache_collection.environment(folder),
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def _examples(folder: Path) -> int:
    (manifest,) = (folder / "cache" / "manifests").glob("*.json")
    return sum(entry["examples"] for entry in json.loads(manifest.read_bytes())["entries"])


def _seqio(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    seconds = {}
    for tasks in (args.peer_tasks, 2 * args.peer_tasks):
        peer = folder / f"peer{tasks}"
        cache_collection.write(peer, tasks=tasks, rows=args.rows)
        seconds[tasks] = cache_collection.seqio_seconds(peer, workers=1)
    few, many = seconds.values()
    return {
        "seconds_a_further_task": round((many - few) / args.peer_tasks, 3),
        "tasks": list(seconds),
        "seconds": [round(few, 1), round(many, 1)],
        "rows": args.rows,
    }


if __name__ == "__main__":
    main()
