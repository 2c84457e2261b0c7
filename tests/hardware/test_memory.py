"""Memory that is kept: in processes of their own, since malloc's settings cannot be taken back."""

import os
import platform
import resource
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from flanx.hardware.memory import keep_freed
kept = keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**28, np.uint8)
before = faults()
np.ones(2**28, np.uint8)
print(kept, faults() - before)
"""
PAGES = 2**28 // resource.getpagesize()

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")


def kept_and_faults(**environment: str) -> tuple[str, int]:
    clean = {n: v for n, v in os.environ.items() if not n.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = done.stdout.split()
    return kept, int(faults)


@needs_glibc
def test_freed_memory_is_not_taken_from_the_system_again():
    kept, faults = kept_and_faults()
    assert kept == "True"
    assert faults < PAGES // 100


@needs_glibc
@pytest.mark.parametrize(
    "environment",
    [{"MALLOC_ARENA_MAX": "4"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=4"}],
)
def test_what_the_user_says_of_malloc_stays(environment):
    assert kept_and_faults(**environment)[0] == "False"
