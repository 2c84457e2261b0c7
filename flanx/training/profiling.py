"""A trace of some steps, for xprof and TensorBoard's profile page (`TrainConfig.profile_steps`).

Process 0 traces itself and its devices. All processes run one program, so the trace of one host tells of the others;
those of a whole pod would be gigabytes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from flanx.errors import UserError
from flanx.training.clock import Clock

FOLDER = (
    "profile"  # in MODEL_DIR; the files lie in plugins/profile/<time> there, where the viewers look
)
WARM = 10  # first step of a trace where only a number of steps is asked for


def steps_to_profile(value: Any) -> tuple[int, int] | None:
    """The first and the last step of a trace, from what a user wrote.

    Args:
      value: None; a number of steps, which begin with step 10; or the pair (first, last), both traced.

    Raises:
      UserError: it is none of these.
    """
    if value is None:
        return None
    steps = (WARM, WARM + value - 1) if _whole(value) else value
    pair = isinstance(steps, tuple | list) and len(steps) == 2 and all(map(_whole, steps))
    if not pair or not 1 <= steps[0] <= steps[1]:
        raise UserError(
            f"PROFILE_STEPS is {value!r}: give a number of steps, 1 or more, or the first and the last, say (10, 13)"
        )
    return steps[0], steps[1]


class Profile:
    """Traces the steps asked for, of a run that takes them; one that begins after the first of them traces none."""

    def __init__(
        self,
        model_dir: str,
        steps: tuple[int, int] | None,
        *,
        clock: Clock,
        say: Callable[[str], None],
    ):
        """Traces nothing yet.

        Args:
          model_dir: where the folder goes.
          steps: first and last step, None for no trace.
          clock: does not count starting and writing the trace.
          say: tells the user where it is.
        """
        self._folder, self._steps = Path(model_dir) / FOLDER, steps
        self._clock, self._say = clock, say
        self._began: int | None = None

    def step(self, number: int) -> jax.profiler.StepTraceAnnotation:
        """Around all that a step does, its wait for data too; costs nothing while no trace is taken."""
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def before(self, number: int, pending: Any) -> None:
        """Starts the trace if it begins with step `number`, once the steps before have made `pending`."""
        if self._steps is None or number != self._steps[0]:
            return
        with self._clock.on_devices():
            jax.block_until_ready(pending)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every Python call would slow down what is measured
        with self._clock.paused():
            try:
                jax.profiler.start_trace(self._folder, profiler_options=options)
            except (RuntimeError, OSError) as error:
                self._say(f"no profile of step {number:,}: {error}")
            else:
                self._began = number

    def after(self, number: int, tick: jax.Array) -> None:
        """Ends the trace if step `number` is its last, once the step has made `tick`."""
        if self._began is None or self._steps is None or number != self._steps[1]:
            return
        with self._clock.on_devices():
            tick.block_until_ready()
        with self._clock.paused():
            self.close(number)

    def close(self, number: int) -> None:
        """Writes what there is of a trace; a run may end, after step `number`, before the trace does."""
        if self._began is None:
            return
        began, self._began = self._began, None
        what = (
            f"profile of steps {began:,} to {number:,}"
            if number >= began
            else "profile of no whole step"
        )
        try:
            jax.profiler.stop_trace()
        except (RuntimeError, OSError) as error:
            self._say(f"the profile could not be written to {self._folder}: {error}")
            return
        self._say(
            f"{what}: {self._folder}; to look at it: pip install xprof && "
            f"xprof --logdir={self._folder}"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
