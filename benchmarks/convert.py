"""Converting a 3B model between forms: memory beyond the largest array, and time against `cp -r` of the same files.

    python benchmarks/convert.py                # T5.1.1 XL, 2.85B parameters in bfloat16, 5.7 GB; takes 25 GB of disk
    python benchmarks/convert.py --size small   # a trial of seconds

A random model is written as a Hugging Face folder (shards of 5 GB), then converted by `flanx convert` in processes of
its own: hf -> flanx -> t5x -> hf, and once more t5x -> hf from arrays in the order that T5X itself writes, where every
kernel has to be transposed. Each conversion stands between two copies of the same source with `cp -r`; the ratio is to
their mean. Before each, what was written earlier is flushed, so that nobody waits for another's writes; nothing is
dropped from the page cache. Prints one JSON line; the files are removed.
"""

import argparse
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np

from flanx.interop import convert
from flanx.interop.source import ArrayInfo, Source, StoredArray, View
from flanx.interop.to_hf import HfTarget
from flanx.interop.to_t5x import T5xTarget
from flanx.models.t5.config import T5Config

SIZES = {
    "small": T5Config(512, 6, 8, 8, 1024),
    "base": T5Config(768, 12, 12, 12, 2048),
    "large": T5Config(1024, 16, 24, 24, 2816),
    "xl": T5Config(2048, 32, 24, 24, 5120),
}


def random_source(config: T5Config) -> Source:
    """A model of random bfloat16 values, made as they are read."""
    dtype = np.dtype(ml_dtypes.bfloat16)
    infos = {name: ArrayInfo(shape, dtype) for name, shape in config.parameters().shapes().items()}
    stored = {
        name: StoredArray(info, "memory", partial(_values, info.shape, seed))
        for seed, (name, info) in enumerate(infos.items())
    }
    views = {name: View(name) for name in infos}
    return Source(
        "random", Path(), config, 0, None, {}, infos, {}, (), (), views=views, stored=stored
    )


def _values(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Signs and mantissas at random, magnitudes from 1/128 to 1."""
    bits = np.random.default_rng(seed).integers(0, 2**16, math.prod(shape), np.uint16)
    return ((bits & 0x81FF) | 0x3C00).view(ml_dtypes.bfloat16).reshape(shape)


def write(source: Source, make, folder: Path) -> None:
    """Writes the random model in a form."""
    with convert.opened(folder, overwrite=False) as temporary:
        convert.convert(source, make(temporary), temporary, folder)


def copy(folder: Path) -> float:
    """Seconds of `cp -r`."""
    target = folder.with_name("copy")
    os.sync()
    start = time.perf_counter()
    subprocess.run(["cp", "-r", folder, target], check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds


def measure(source: Path, target: Path, form: str, largest: int) -> dict[str, float]:
    """One conversion between two copies of its source."""
    copies = [copy(source)]
    command = [sys.executable, "-m", "flanx", "convert", str(source), str(target), "--to", form]
    quiet = {**os.environ, "FLANX_PROGRESS": "off"}
    os.sync()
    start = time.perf_counter()
    process = subprocess.Popen(command, env=quiet, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    copies.append(copy(source))
    peak = usage.ru_maxrss * 1024
    return {
        "seconds": round(seconds, 2),
        "cp_seconds": [round(c, 2) for c in copies],
        "ratio_to_cp": round(seconds / (sum(copies) / 2), 2),
        "peak_rss_mb": round(peak / 1e6),
        "beyond_largest_array_mb": round((peak - largest) / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="xl")
    parser.add_argument("--folder", help="where to put the files; a temporary folder unless given")
    args = parser.parse_args()
    config = replace(SIZES[args.size], dtype="float32")
    source = random_source(config)
    largest = max(info.nbytes for info in source.params.values())
    work = Path(tempfile.mkdtemp(prefix="flanx-convert-", dir=args.folder))
    results = {}
    try:
        hf, flanx, t5x, again = (work / name for name in ("hf", "flanx", "t5x", "again"))
        write(source, lambda folder: HfTarget(source, config, folder), hf)
        results["hf_to_flanx"] = measure(hf, flanx, "flanx", largest)
        results["flanx_to_t5x"] = measure(flanx, t5x, "t5x", largest)
        shutil.rmtree(flanx)
        results["t5x_to_hf"] = measure(t5x, again, "hf", largest)
        same = subprocess.run(["diff", "-rq", hf, again], check=False).returncode
        shutil.rmtree(hf), shutil.rmtree(again), shutil.rmtree(t5x)
        write(source, lambda folder: T5xTarget(source, folder, t5x), t5x)
        results["t5x_rows_to_hf"] = measure(t5x, again, "hf", largest)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    total = sum(info.nbytes for info in source.params.values())
    print(
        json.dumps(
            {
                "benchmark": "convert",
                "parameters": config.num_parameters(),
                "gigabytes": round(total / 1e9, 2),
                "largest_array_mb": round(largest / 1e6),
                "round_trip_identical": same == 0,
                **results,
                "cpus": os.cpu_count(),
                "machine": platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
