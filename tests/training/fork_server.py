"""Runs training in processes that start in milliseconds: forked from this one, which has imported everything.

A script, not a test. It reads one JSON request a line and answers with one JSON line:

  {"run": <pickled TrainConfig>, "hosts": [address, count, index] or null, "devices": n, "out": file, "err": file,
   "faults": [[name, ...arguments], ...]}   ->  {"pid": n}
  {"wait": pid}                             ->  {"status": exit status, negative for a signal}

Faults are the `fault_*` functions below: what a child does to itself, and when.
"""

import atexit
import dataclasses
import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # to compile


def main() -> int:
    import_everything()
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            pid = os.fork()
            if pid == 0:
                return child(request)
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)
    return 0


def import_everything() -> None:
    """Without a use of any device: JAX's threads would not live on in a child."""

    import flanx.evaluation.curves
    import flanx.evaluation.evaluator
    import flanx.evaluation.summary
    import flanx.training.event_file
    import flanx.training.loop
    import flanx.training.preemption
    import flanx.training.run  # noqa: F401


def child(request) -> int:
    from flanx.errors import UserError
    from flanx.training.hosts import Hosts
    from flanx.training.loop import train

    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={request['devices']} {QUICK}"
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    config = pickle.loads(Path(request["run"]).read_bytes())
    keep_compiled_steps(config, request["devices"], (request["hosts"] or [])[1:])
    for name, *arguments in request["faults"]:
        globals()[f"fault_{name}"](config, *arguments)
    try:
        result = train(config, hosts=Hosts(*(request["hosts"] or ())))
        return 75 if result.preempted else 0
    except UserError as error:
        print(error, file=sys.stderr)
        return error.status
    except BaseException:
        traceback.print_exc()
        return 1


def keep_compiled_steps(config, devices, place) -> None:
    """A step that another child has compiled is loaded instead of traced: half of what a start costs."""
    import jax
    from jax.experimental import serialize_executable
    from jax.experimental.compilation_cache import compilation_cache

    from flanx import atomic_files
    from flanx.training.config import CheckpointConfig
    from flanx.training.program import CompiledStep

    alike = dataclasses.replace(
        config,
        model_dir="unused",
        train_steps=1,
        checkpoint=CheckpointConfig(),
        evals=(),
        hang_seconds=None,
    )
    name = hashlib.sha256(pickle.dumps((alike, devices, place))).hexdigest()
    kept = Path(config.data.cache_dir) / "steps" / name
    call = CompiledStep.__call__

    def start(self):
        if kept.exists():
            self._compiled = serialize_executable.deserialize_and_load(
                *pickle.loads(kept.read_bytes())
            )

    def call_and_keep(self, *arguments):
        if self._compiled is None:
            # A program that comes out of JAX's own cache cannot be written once more.
            for used in (False, True):
                jax.config.update("jax_enable_compilation_cache", used)
                compilation_cache.reset_cache()
                if not used:
                    self._compiled = self.ahead_of_time()
            atomic_files.write(kept, pickle.dumps(serialize_executable.serialize(self._compiled)))
        return call(self, *arguments)

    CompiledStep.start, CompiledStep.__call__ = start, call_and_keep


def at_step(step, act) -> None:
    """Calls `act` as soon as `step` steps are taken in this process's count."""
    from flanx.training.watchdog import Watchdog

    told = Watchdog.step

    def tell(self, number):
        told(self, number)
        if number == step:
            act()

    Watchdog.step = tell


def fault_die_after(config, seconds, step=None) -> None:
    """Ends `seconds` after the start, or after `step`, wherever any thread is.

    By the timer's signal, whose default is to end the process in the kernel, as SIGKILL does.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    start = lambda: signal.setitimer(signal.ITIMER_REAL, seconds)  # noqa: E731
    start() if step is None else at_step(step, start)


def fault_die_at_file(config, step, count) -> None:
    """Killed at the `count`th file that is made, renamed or removed in MODEL_DIR after `step`, before it happens."""
    left = [count]
    armed = threading.Event()

    def look(event, arguments):
        if not armed.is_set() or event not in ("open", "os.rename", "os.mkdir", "os.remove"):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        if str(arguments[0]).startswith(config.model_dir):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    at_step(step, armed.set)


def fault_signal(config, step, name) -> None:
    """A signal to this process after `step`."""
    at_step(step, lambda: os.kill(os.getpid(), getattr(signal, name)))


def fault_nohup(config) -> None:
    """As a command under `nohup` begins."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def fault_slow(config, step, seconds) -> None:
    """Data takes its time after `step`: the run does not end before the processes have agreed on something."""
    from flanx.data.loader import Prefetch

    slow = threading.Event()
    come = Prefetch.__next__

    def late(self):
        if slow.is_set():
            time.sleep(seconds)
        return come(self)

    Prefetch.__next__ = late
    at_step(step, slow.set)


def fault_stall(config, step) -> None:
    """The data never comes again after `step`."""
    from flanx.data.loader import Prefetch

    stalled = threading.Event()
    come = Prefetch.__next__

    def never(self):
        if stalled.is_set():
            threading.Event().wait()
        return come(self)

    Prefetch.__next__ = never
    at_step(step, stalled.set)


def fault_full(config, first, last, size) -> None:
    """From step `first` to step `last` the kernel refuses to write files beyond `size` bytes, as a full disk does.

    What the process prints goes through pipes, to which no limit applies.
    """
    for number in (1, 2):
        pipe = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=os.dup(number))
        os.dup2(pipe.stdin.fileno(), number)
        pipe.stdin.close()
        atexit.register(drain, number, pipe)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    at_step(first, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard)))
    at_step(last, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))


def fault_short_waits(config, seconds) -> None:
    """Saves that several processes make together wait so long for each other, instead of orbax's twenty minutes."""
    from orbax.checkpoint import AsyncOptions

    of_fields = AsyncOptions.__init__.__defaults__
    AsyncOptions.__init__.__defaults__ = (seconds, *of_fields[1:])


def fault_unreadable(config, step) -> None:
    """This process cannot read the checkpoint of `step`."""
    from flanx.training.checkpoint import Checkpoints

    read = Checkpoints._restore

    def restore(self, number, *arguments):
        if number == step:
            raise OSError("input/output error")
        return read(self, number, *arguments)

    Checkpoints._restore = restore


def drain(number, pipe) -> None:
    """Lets everything that was printed arrive."""
    (sys.stdout if number == 1 else sys.stderr).flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    pipe.wait()


if __name__ == "__main__":
    sys.exit(main())
