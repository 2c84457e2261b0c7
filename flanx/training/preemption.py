"""Being told to stop: SIGTERM and SIGINT end training at the next step, with a checkpoint."""

import signal
import threading
from types import FrameType, TracebackType


class Preemption:
    """Listens while it is entered (in the main thread of a single process; elsewhere it hears nothing).

    The first signal asks for an end at the next step; a second SIGINT is an impatient user and interrupts at once.

    Attributes:
      name: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Preemption":
        import jax

        # With several processes, SIGTERM is for JAX's own handler, which tells the others.
        alone = jax.process_count() == 1
        if alone and threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def asked(self, step: int) -> bool:
        """Whether to stop after `step`; all processes of a run give the same answer for the same step."""
        import jax

        if jax.process_count() == 1:
            return self.name is not None
        from jax.experimental import multihost_utils

        return bool(multihost_utils.reached_preemption_sync_point(step))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
