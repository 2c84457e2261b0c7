"""How long `flanx cache` takes for a folder of Natural Instructions, and what it takes to see that it is done.

    python benchmarks/cache_natural_instructions.py DATA_DIR VOCABULARY [--workers N]

Caches the mixture `niv2.train` in the types zs_opt and fs_opt at 1024/256 with the command line, in a fresh folder:
once with all workers, once with one, and once more when everything is there. Prints one JSON line; `gain` is one
worker's time over that of all.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flanx.data.request import StoreRequest
from flanx.prep import prepared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", help="folder with tasks/*.json")
    parser.add_argument("vocabulary", help="SentencePiece model")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many = _request(args, f"{folder}/many")
        one = _request(args, f"{folder}/one")
        seconds = _cache(many, args.workers)
        seconds_one = _cache(one, 1)
        seconds_again = _cache(many, args.workers)
        began = time.perf_counter()
        found = prepared.ready(many)
        seconds_ready = time.perf_counter() - began
    assert found is not None
    figure = {
        "benchmark": "cache_natural_instructions",
        "seconds": round(seconds, 2),
        "workers": args.workers,
        "seconds_one_worker": round(seconds_one, 2),
        "gain": round(seconds_one / seconds, 2),
        "seconds_when_done": round(seconds_again, 2),
        "milliseconds_ready": round(1000 * seconds_ready, 1),
        "tasks": len(found.entries),
        "examples": found.num_examples,
        "tokens": sum(sum(entry.tokens.values()) for entry in found.entries),
        "examples_per_second": round(found.num_examples / seconds),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    print(json.dumps(figure))


def _request(args: argparse.Namespace, cache_dir: str) -> StoreRequest:
    return StoreRequest(
        mixture="niv2.train",
        feature_lengths={"inputs": 1024, "targets": 256},
        cache_dir=cache_dir,
        vocabulary=args.vocabulary,
        data_dir=args.data_dir,
        template_types=("zs_opt", "fs_opt"),
    )


def _cache(request: StoreRequest, workers: int) -> float:
    """Seconds of the whole command, start of Python included."""
    path = Path(request.cache_dir).with_suffix(".json")
    path.write_text(json.dumps([request.to_json()]))
    command = [sys.executable, "-m", "flanx", "cache", "--requests", str(path)]
    began = time.perf_counter()
    subprocess.run([*command, "--workers", str(workers)], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
