"""Two processes that cache the same mixture into one folder at the same time."""

import json
import os
import subprocess
import sys

from flanx.data import store
from flanx.prep import prepared, verify
from flanx.prep.cache import cache
from flanx.prep.progress import Progress

_DRIVER = """
import json, sys
from flanx.data.request import StoreRequest
from flanx.prep import jobs, parts
from flanx.prep.cache import cache

parts.CHUNK = 64
jobs._SPLIT = 4096

if __name__ == "__main__":
    request = StoreRequest.from_json(json.loads(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    (manifest,) = cache([request], workers=int(sys.argv[2]))
    print(manifest.fingerprint)
"""


def test_both_end_well_with_one_result(collection, tmp_path):
    shop = collection(big=600, **{f"small{i}": 20 for i in range(12)})
    request = shop.request()
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "FLANX_PROGRESS": "off"}
    racers = [
        subprocess.Popen(
            [sys.executable, str(driver), json.dumps(request.to_json()), workers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for workers in ("0", "2")
    ]
    try:
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        ends = [racer.communicate(timeout=60) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert [racer.returncode for racer in racers] == [0, 0], ends
    manifest = prepared.ready(request)
    assert {said.strip() for said, _ in ends} == {manifest.fingerprint}
    assert sorted(entry.path for entry in manifest.entries) == shop.stores()  # nothing is left over
    assert verify.verify_folder(shop.cache_dir, progress=Progress()).damaged == ()
    sums = [store.open(shop.cache_dir / path).meta["sha256"] for path in shop.stores()]
    (alone,) = cache(
        [shop.request(cache_dir=str(tmp_path / "alone"))], workers=0, progress=Progress()
    )
    assert [entry.open(tmp_path / "alone").meta["sha256"] for entry in alone.entries] == sums
