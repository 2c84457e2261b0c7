"""From the command to the first batch of a mixture of thousands of tasks whose store is ready. Prints one JSON line.

    python benchmarks/loader_start.py                      # SeqIO and grain at 300 tasks
    python benchmarks/loader_start.py --peer_tasks 3672    # as many for them; SeqIO takes long, and gigabytes

1,836 datasets in two template types each, 200 examples a task, batches of 32 rows of 2048/512. flanx does what `flanx
train` does before its first step, but for building the model: Python starts, the user's module registers its datasets,
the manifest is asked for and found ready (every source file and every store is looked at, and what is registered is
compared with what was cached), the loader is laid out, and a thread makes the first batch. The store is made by `flanx
cache` of one JSON-lines file a dataset, which takes minutes. Memory is the process's peak, threads the most that were
seen at once. Peers get tokens of the same sizes in memory (stream_peers.py).
"""

import argparse
import dataclasses
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

LENGTHS = {"inputs": 2048, "targets": 512}
BATCH_SIZE = 32
TYPES = ("zs_noopt", "fs_noopt")


MODULE = "loader_start_tasks"
TASKS = """
import json
from pathlib import Path
import flanx

HERE = Path(__file__).parent
for file in sorted((HERE / "sources").glob("*.jsonl")):
    flanx.register(
        f"bench.{file.stem}",
        source=flanx.Jsonl(train=str(file)),
        fields=lambda row: {"question": row["question"], "answer": row["answer"]},
        templates=[flanx.Template("{question}", "{answer}"), flanx.Template("Answer: {question}", "{answer}")],
        template_types=("zs_noopt", "fs_noopt"),
    )
"""


def request_of(folder: Path) -> Any:
    from flanx.training.config import DataConfig

    return DataConfig(
        mixture="bench.*",
        cache_dir=str(folder / "cache"),
        feature_lengths=LENGTHS,
        vocabulary="bytes",
        imports=(MODULE,),
    ).request()


def prepare(folder: Path, datasets: int, examples: int) -> None:
    """Sources, a module that registers them, their stores, and stores of as many tasks for peers."""
    import numpy as np
    from stream_peers import write

    from flanx.prep.prepared import ensure

    write(folder, datasets * len(TYPES), examples, LENGTHS)
    (folder / "sources").mkdir()
    rng = np.random.default_rng(0)
    for number in range(datasets):
        letters = rng.integers(97, 123, (examples, 220), np.uint8)
        rows = (
            {"question": row[:200].tobytes().decode(), "answer": row[200:].tobytes().decode()}
            for row in letters
        )
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "sources" / f"d{number:04}.jsonl").write_text(text)
    (folder / f"{MODULE}.py").write_text(TASKS)
    sys.path.insert(0, str(folder))
    ensure([request_of(folder)])


def first_batch(maker: str, folder: Path, tasks: int) -> None:
    """The child process: prints the parts of the time once the first batch is in hand."""
    begun = time.perf_counter()
    parts: dict[str, float] = {}
    if maker == "flanx":
        from flanx.data import loader as loaders
        from flanx.prep import prepared

        sys.path.insert(0, str(folder))
        request = request_of(folder)
        parts["imports"] = time.perf_counter() - begun
        (manifest,) = prepared.ensure([request])
        if tasks < len(manifest.entries):
            manifest = dataclasses.replace(manifest, entries=manifest.entries[:tasks])
        parts["ready"] = time.perf_counter() - begun
        loader = loaders.Loader(
            manifest, request.cache_dir, batch_size=BATCH_SIZE, feature_lengths=LENGTHS, seed=0
        )
        with loaders.prefetch(loader, 2) as batches:
            next(batches)
    else:
        import stream_peers

        next(stream_peers.MAKERS[maker](folder, tasks, LENGTHS, BATCH_SIZE))
    parts["first_batch"] = time.perf_counter() - begun
    print(json.dumps(parts), flush=True)
    sys.stdin.readline()  # until the parent has looked at this process


def measure(maker: str, folder: Path, tasks: int) -> dict[str, Any]:
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--child", maker, "--folder", str(folder)]
    child = subprocess.Popen(
        [*command, "--peer_tasks", str(tasks)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    most_threads = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most_threads
        while not done.wait(0.02):
            most_threads = max(most_threads, status(child.pid).get("Threads", 0))

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert child.stdout is not None
    line = child.stdout.readline()
    seconds = time.perf_counter() - begun
    peak = status(child.pid).get("VmHWM", 0)
    done.set()
    watcher.join()
    child.communicate("\n")
    if child.returncode or not line:
        raise SystemExit(f"{maker} ended with status {child.returncode}")
    parts = {name: round(value, 2) for name, value in json.loads(line).items()}
    return {
        "tasks": tasks,
        "seconds": round(seconds, 2),
        "gigabytes": round(peak / 1e6, 2),
        "threads": most_threads,
        "parts_seconds": parts,
    }


def status(process: int) -> dict[str, int]:
    """Numbers of /proc/<process>/status, memory in kB."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    fields = (line.replace("kB", "").split(":") for line in lines)
    return {name: int(value) for name, value in fields if value.strip().isdecimal()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=int, default=1836, help="each in two template types")
    parser.add_argument("--examples", type=int, default=200, help="of each task")
    parser.add_argument("--peer_tasks", type=int, default=300, help="tasks that the peers get")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        first_batch(options.child, options.folder, options.peer_tasks)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, options.datasets, options.examples)
        all_tasks = options.datasets * len(TYPES)
        peer_tasks = min(options.peer_tasks, all_tasks)
        measure("flanx", folder, all_tasks)  # so that nobody is charged for the disk
        whole = measure("flanx", folder, all_tasks)
        same = measure("flanx", folder, peer_tasks)
        peers = {peer: measure(peer, folder, peer_tasks) for peer in ("grain", "seqio")}
    print(
        json.dumps(
            {
                "benchmark": "loader_start",
                "flanx": whole,
                "flanx_at_the_peers_tasks": same,
                **peers,
                "peers_ran_at": f"{peer_tasks} of {all_tasks} tasks",
                "times_faster_than_seqio": round(peers["seqio"]["seconds"] / same["seconds"], 1),
                "times_faster_than_grain": round(peers["grain"]["seconds"] / same["seconds"], 1),
                "goal": {"seconds": 3, "gigabytes": 1, "threads": 20},
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
