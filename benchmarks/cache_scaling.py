"""How much faster two processes cache than one.

    python benchmarks/cache_scaling.py
    python benchmarks/cache_scaling.py --data_dir natural-instructions --vocabulary spiece.model

Runs the whole command `flanx cache`, start of Python included, with --workers 1 and 2 in turn, each time in a fresh
folder, and takes the best of --repeats. Without --data_dir the work is a generated collection of tasks like those of
Natural Instructions (see cache_collection.py), zero- and few-shot at 1024/256; with it, the mixture `niv2.train`.
`large` is the same for a single task of as many rows, which is cut in shards. SeqIO's own caching of --peer_tasks of
the generated tasks, zero-shot (`seqio_cache_tasks`, Beam's local runner with one and with two worker processes), stands
beside. Prints one JSON line; `gain` is one process's time over that of two.
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
    parser.add_argument("--data_dir", help="Natural Instructions: a folder with tasks/*.json")
    parser.add_argument("--vocabulary", help="SentencePiece model for --data_dir")
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer_tasks", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.data_dir:
            request = _natural_instructions(args)
        else:
            cache_collection.write(folder, tasks=args.tasks, rows=args.rows)
            request = _generated()
        figure: dict[str, Any] = {"benchmark": "cache_scaling", **_compare(request, folder, args)}
        cache_collection.write(folder / "large", tasks=1, rows=args.tasks * args.rows)
        figure["large"] = _compare(_generated(), folder / "large", args)
        if args.peer_tasks:
            cache_collection.write(folder / "peer", tasks=args.peer_tasks, rows=args.rows)
            figure["seqio"] = _seqio(folder / "peer", args)
    figure["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
    print(json.dumps(figure))


def _natural_instructions(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "mixture": "niv2.train",
        "vocabulary": args.vocabulary,
        "data_dir": str(Path(args.data_dir).absolute()),
        "template_types": ["zs_opt", "fs_opt"],
    }


def _generated() -> dict[str, Any]:
    return {"mixture": "many.*", "imports": [MODULE]}


def _compare(request: dict[str, Any], folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.repeats):
        for workers in (1, 2):
            seconds[workers].append(_cache(request, folder, workers))
    (manifest,) = (folder / "cache" / "manifests").glob("*.json")
    entries = json.loads(manifest.read_bytes())["entries"]
    one, two = min(seconds[1]), min(seconds[2])
    return {
        "gain": round(one / two, 2),
        "seconds_one_process": round(one, 2),
        "seconds_two_processes": round(two, 2),
        "tasks": len(entries),
        "examples": sum(entry["examples"] for entry in entries),
        "examples_per_second": round(sum(entry["examples"] for entry in entries) / two),
    }


def _cache(request: dict[str, Any], folder: Path, workers: int) -> float:
    """Seconds of the whole command."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    whole = {
        **request,
        "feature_lengths": {"inputs": 1024, "targets": 256},
        "cache_dir": str(folder / "cache"),
    }
    (folder / "request.json").write_text(json.dumps([whole]))
    command = [sys.executable, "-m", "flanx", "cache", "--requests", str(folder / "request.json")]
    began = time.perf_counter()
    subprocess.run(
        [*command, "--workers", str(workers)],
        check=True,
        env=cache_collection.environment(folder),
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def _seqio(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    one = cache_collection.seqio_seconds(folder, workers=1)
    two = cache_collection.seqio_seconds(folder, workers=2)
    return {
        "gain": round(one / two, 2),
        "seconds_one_process": round(one, 1),
        "seconds_two_processes": round(two, 1),
        "tasks": args.peer_tasks,
        "examples": args.peer_tasks * args.rows,
    }


if __name__ == "__main__":
    main()
