"""A caching run that is killed leaves nothing that is ever read, and the next run goes on."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys

import pytest

from flanx.data import store
from flanx.prep import prepared
from flanx.prep.cache import cache
from flanx.prep.progress import Progress

_DRIVER = """
import json, sys
from flanx.data.request import StoreRequest
from flanx.prep.cache import cache

if __name__ == "__main__":
    request = StoreRequest.from_json(json.loads(sys.argv[1]))
    cache([request], workers=int(sys.argv[2]))
"""

# The second dataset's code says through a pipe that it runs, and then waits to be killed.
_WAITING = """
def wait_to_be_killed(name):
    pipe = os.environ.get("FLANX_TEST_PIPE")
    if pipe and name == "word200":
        handle = os.open(pipe, os.O_WRONLY)
        os.write(handle, str(os.getpid()).encode())
        threading.Event().wait()
"""


def wait_for_death(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(process)
        wait_for(handle)
        os.close(handle)


def wait_for(handle: int) -> None:
    """Waits until `handle` (a pipe with something in it, or a process that is dead) can be read."""
    ready, _, _ = select.select([handle], [], [], 60)
    assert ready, "the caching process never came that far"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_is_resumed(collection, tmp_path, workers):
    shop = collection(one=5, two=3)
    shop.write_rows("two", shop.words(3, start=199))
    shop.write_module(
        head="import os\nimport threading\n" + _WAITING, body="wait_to_be_killed(row['word'])"
    )
    request = shop.request()
    driver = tmp_path / "driver.py"
    driver.write_text(_DRIVER)
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    pipe = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    child = subprocess.Popen(
        [sys.executable, str(driver), json.dumps(request.to_json()), str(workers)],
        env={**os.environ, "FLANX_TEST_PIPE": str(fifo), "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(pipe)
        worker = int(os.read(pipe, 20))
        child.send_signal(signal.SIGKILL)
        wait_for_death(worker)  # workers follow their parent
    finally:
        child.kill()
        child.wait()
        os.close(pipe)

    assert prepared.ready(request) is None
    left = shop.stores()
    owners = {int(path.split("-")[2]) for path in left if "/.tmp-" in path}
    assert worker in owners
    for owner in owners:
        wait_for_death(owner)
    whole = [path for path in left if "/.tmp-" not in path]
    for path in whole:
        store.verify(shop.cache_dir / path)

    (manifest,) = cache([request], workers=0, progress=Progress())
    assert [entry.examples for entry in manifest.entries] == [5, 3]
    assert sorted(entry.path for entry in manifest.entries) == shop.stores()
    assert set(whole) <= set(shop.stores())
