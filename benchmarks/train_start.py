"""Time from the `flanx train` command to its first finished step, on a token store that is ready. Prints one JSON line.

    python benchmarks/train_start.py

The model is `tiny`, the batch 8 rows of 512/128; once with an empty compile cache, once with the one that run left.
"""

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = """
import flanx

flanx.register(
    "startup.copy",
    source=flanx.Jsonl(train="rows.jsonl"),
    fields=lambda row: {"text": row["text"]},
    templates=[flanx.Template("Copy this text: {text}", "{text}")],
    category="copying",
    metrics=["exact_match"],
)
"""

GIN = """
from __gin__ import dynamic_registration
include "runs/train.gin"
include "models/t5_1_1/tiny.gin"
MIXTURE_OR_TASK_NAME = "startup.copy"
TASK_FEATURE_LENGTHS = {"inputs": 512, "targets": 128}
VOCABULARY = "bytes"
BATCH_SIZE = 8
TRAIN_STEPS = 1
"""


def flanx(command: str, folder: Path, *flags: str) -> list[str]:
    return [
        *(sys.executable, "-m", "flanx", command, f"--gin_file={folder / 'run.gin'}"),
        *("--import", "startup", f"--gin.DATA_DIR={folder}", f"--gin.CACHE_DIR={folder / 'cache'}"),
        *flags,
    ]


def seconds_to_first_step(folder: Path, name: str) -> float:
    """Wall clock from before the process exists to its line about the first step."""
    command = flanx("train", folder, f"--gin.MODEL_DIR={folder / name}")
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("step 1 done"):
                taken = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(f"flanx train ended with status {child.returncode}")
    return taken


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "startup.py").write_text(TASK)
        (folder / "run.gin").write_text(GIN)
        rows = ({"text": f"word{i} " * (5 + i % 20)} for i in range(5000))
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        caching = flanx("cache", folder, f"--gin.MODEL_DIR={folder / 'cold'}")
        subprocess.run(caching, check=True, cwd=folder, capture_output=True)
        cold = seconds_to_first_step(folder, "cold")
        warm = seconds_to_first_step(folder, "warm")
    print(
        json.dumps(
            {
                "benchmark": "train_start",
                "seconds_to_first_step": round(cold, 2),
                "seconds_with_compile_cache": round(warm, 2),
                "ratio": round(warm / cold, 3),
                "model": "t5_1_1/tiny",
                "batch": "8 x 512/128",
                "python": platform.python_version(),
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
