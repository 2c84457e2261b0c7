"""Ends a process with the status for "start me again" where JAX would abort it because process 0 is gone.

JAX's client aborts its process the moment process 0, which keeps the coordinator, dies: no exception, status 134, as if
flanx had crashed. JAX offers a callback instead, which fails in jaxlib's conversion of its argument. So the abort's
signal is caught, by C's own `signal`, since Python's handlers run in the main thread, which is waiting for the devices.
"""

import contextlib
import ctypes
import os
import signal
import socket
from typing import Any

from flanx.terminal import say
from flanx.training.hang_report import ending

ANSWER_SECONDS = 2.0
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int)
_kept: list[Any] = []  # what C calls must not be freed


def end_with_status(address: str, status: int) -> None:
    """From now on an abort ends this process with `status` where nobody answers at the coordinator's `address`.

    Any other abort, of a broken library say, stays what it is.
    """

    def aborted(number: int) -> None:
        if not _answers(address):
            say(f"flanx: process 0 ({address}) is gone. {ending(status)}")
            os._exit(status)

    handler = _Handler(aborted)
    _kept.append(handler)
    ctypes.CDLL(None).signal(signal.SIGABRT, handler)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
        return True
    return False
