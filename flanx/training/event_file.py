"""TensorBoard events, written where they arise.

tensorboardX's own writer hands them to a thread, which a full disk ends, and whoever writes after that waits for ever.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from flanx.training.appended import Appended

VERSION = "brain.Event:2"


class EventFile:
    """One run's events, in a file of its own for each process that goes on with it."""

    def __init__(self, folder: str, purge_step: int):
        """Events of `purge_step` and after that other files hold are hidden: this process takes those steps again."""
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        start = SessionLog(status=SessionLog.START)
        first = _records(Event(file_version=VERSION), Event(step=purge_step, session_log=start))
        self._file = Appended(Path(folder) / name, first)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Numbers of a step by their tags.

        Raises:
          OSError: they are not written yet; the next call tries again.
        """
        found = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._file.write(_records(Event(step=step, summary=Summary(value=found))))

    def close(self) -> None:
        """See `Appended.close`."""
        self._file.close()


def _records(*events: Any) -> bytes:
    """What happens now, as it stands in the file."""
    for event in events:
        event.wall_time = time.time()
    return b"".join(_record(event.SerializeToString()) for event in events)


def _record(data: bytes) -> bytes:
    """TFRecord: length, its checksum, data, their checksum."""
    length = struct.pack("<Q", len(data))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, data)]
    return length + sums[0] + data + sums[1]
