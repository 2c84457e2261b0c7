"""A row of tens of megabytes takes a small multiple of its size in memory, not dozens."""

import json
import subprocess
import sys
from pathlib import Path

MEGABYTES = 24
TASK = """
import flanx
flanx.register("long.row", source=flanx.Jsonl(train="rows.jsonl"), fields={"q": "q", "answer": "a"},
    templates=[flanx.Template("{q}", "{answer}")], template_types=["zs_noopt"])
"""
# The peak before anything of the data is read, and that after caching it.
CACHE = """
import resource, sys
from flanx.data.request import StoreRequest
from flanx.prep.cache import cache

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

settings = dict(mixture="long.row", split="train", feature_lengths={"inputs": 64, "targets": 8},
    vocabulary="pkg://flanx.tasks/playground_parts/vocabulary.model", imports=("long_task",))
cache([StoreRequest(cache_dir="small", max_examples=1, **settings)], workers=0)
before = peak()
(manifest,) = cache([StoreRequest(cache_dir="large", **settings)], workers=0)
print(manifest.entries[0].examples, manifest.entries[0].clipped["inputs"], peak() - before)
"""


def test_memory_of_a_long_row(tmp_path: Path):
    text = "the cat sat on a mat " * (MEGABYTES * 1_000_000 // 21)
    rows = [{"q": "small", "a": "b"}, {"q": text, "a": "c"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "long_task.py").write_text(TASK)
    ran = subprocess.run(
        [sys.executable, "-c", CACHE], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    examples, clipped, kilobytes = map(int, ran.stdout.split()[-3:])
    assert (examples, clipped) == (2, 1)
    assert kilobytes / 1000 < 8 * MEGABYTES
