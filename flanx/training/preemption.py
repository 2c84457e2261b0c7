"""Being told to stop: SIGTERM, SIGINT, SIGHUP or a cloud's notice end training at the next step, with a checkpoint."""

import os
import signal
import threading
from functools import partial
from types import FrameType

from flanx.training import notices


class Preemption:
    """Listens while it is entered (in the main thread; elsewhere a process alone hears no signal).

    The first signal asks for an end at the next step; a second SIGINT is an impatient user and interrupts at once.
    SIGHUP, a terminal that was closed, counts unless it is ignored: `nohup` starts a run that outlives its terminal.
    Several processes agree on the step by JAX's preemption sync manager: whichever of them gets a SIGTERM, from outside
    or, for anything else that it hears, from itself, all stop after the same step.

    Attributes:
      name: what came to this process: the signal's name, or a notice in words; None while nothing has.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, object] = {}
        self._lookout: notices.Lookout | None = None
        self._alone = True

    def __enter__(self) -> "Preemption":
        import jax

        self._alone = jax.process_count() == 1
        if threading.current_thread() is threading.main_thread():
            # With several processes, SIGTERM is for JAX's own handler, which tells the others.
            heard = [signal.SIGINT, *([signal.SIGTERM] if self._alone else [])]
            if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
                heard.append(signal.SIGHUP)
            for number in heard:
                self._before[number] = signal.signal(number, self._hear)
        host = notices.metadata_host()
        if host is not None:
            look = partial(notices.google_notice, host)
            self._lookout = notices.Lookout(look, self._ask, notices.SECONDS)
        return self

    def __exit__(self, *error: object) -> None:
        if self._lookout is not None:
            self._lookout.close()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def asked(self, step: int) -> bool:
        """Whether to stop after `step`; all processes of a run give the same answer for the same step."""
        if self._alone:
            return self.name is not None
        from jax.experimental import multihost_utils

        return bool(multihost_utils.reached_preemption_sync_point(step))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._ask(signal.Signals(number).name)

    def _ask(self, name: str) -> None:
        self.name = name
        if not self._alone:
            os.kill(os.getpid(), signal.SIGTERM)
