"""One training run from its configuration: restore, step, log, evaluate, save, sum up."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from flanx import named_modules
from flanx.errors import Diverged
from flanx.training import hosts as processes
from flanx.training import startup
from flanx.training.config import TrainConfig
from flanx.training.hang_report import DATA, DEVICES

if TYPE_CHECKING:
    from flanx.training.lease import Lease
    from flanx.training.preemption import Preemption
    from flanx.training.run import Checked, Run


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      step: steps taken.
      preempted: whether it was told to stop.
      metrics: of the last evaluation.
      saved: step of the newest checkpoint, 0 where there is none.
    """

    step: int
    preempted: bool
    metrics: dict[str, float] = field(default_factory=dict)
    saved: int = 0


class _Stopped(Exception):
    """A signal came during an evaluation, which can be done again."""


def train(
    config: TrainConfig,
    *,
    config_text: str | None = None,
    devices: Sequence[Any] | None = None,
    hosts: processes.Hosts | None = None,
) -> Result:
    """Trains until `config.train_steps` steps are done, or a SIGTERM, SIGINT or SIGHUP asks for an end.

    A MODEL_DIR with a checkpoint is gone on with: the run ends in the bytes in which it would have ended without the
    stop. Step 0 has the parameters at `initial_checkpoint_path`, or random ones.

    Args:
      config: the run.
      config_text: kept as MODEL_DIR/config.gin.
      devices: to train on; all of them unless given.
      hosts: the run's other processes, where no launcher tells of them.

    Raises:
      UserError: the configuration does not fit the data, the devices, or what MODEL_DIR holds; another process trains
        there; or the last checkpoint could not be written.
      Diverged: loss or gradient was not finite `config.most_skipped_in_a_row` times in a row.
    """
    began = time.perf_counter()
    named_modules.name(config.data.imports)
    startup.prepare(startup.compile_cache(config))
    processes.join(hosts or processes.Hosts(), processes.shared_settings(config))
    # Imported here, so that the libraries find the environment prepared.
    from flanx.training.run import check_settings
    from flanx.writable import make_folder

    checked = check_settings(config, devices)
    folder = checked.config.model_dir
    make_folder(folder, "MODEL_DIR")
    processes.check_shared(folder)
    with _leased(folder) as lease:
        return _train_in(checked, lease, config_text=config_text, began=began)


@contextmanager
def _leased(model_dir: str) -> "Iterator[Lease | None]":
    """Process 0's lease of MODEL_DIR, on which the others rely; given back at the end."""
    import jax

    from flanx.training.lease import Lease, take

    def work() -> Lease | None:
        say = partial(print, flush=True)
        return take(model_dir, say=say) if jax.process_index() == 0 else None

    lease = processes.agree("taking MODEL_DIR", work)
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


def _train_in(
    checked: "Checked", lease: "Lease | None", *, config_text: str | None, began: float
) -> Result:
    import jax

    from flanx.training.preemption import Preemption
    from flanx.training.run import open_run

    run = open_run(checked, lease, config_text=config_text, began=began)
    try:
        with Preemption() as preemption, run.watchdog:
            return _train(run, preemption)
    except jax.errors.JaxRuntimeError:
        run.watchdog.failed()
        raise
    finally:
        run.writers.close()


def _train(run: "Run", preemption: "Preemption") -> Result:
    last = run.config.train_steps
    evaluated = run.evaluation_at(run.step)
    stopped = False
    try:
        if evaluated is None and _evaluation_due(run, run.step):
            evaluated = _evaluate(run, preemption)
        if evaluated:
            run.checkpoints.add_evaluation(run.step, evaluated)
        if run.step < last:
            try:
                stopped, evaluated = _steps(run, preemption, evaluated)
            finally:
                run.profile.close(run.step)
        else:
            run.writers.say(f"all {last:,} steps are done already (TRAIN_STEPS); nothing to train")
    except _Stopped:
        stopped = True
        _save(run, None)
    except Diverged:
        with run.watchdog.busy("saving"):
            run.checkpoints.finish()
        raise
    with run.watchdog.busy("saving"):
        needed = run.step if run.step and not run.unsaved else None
        run.checkpoints.finish(needed=needed)
    run.give_up_answers()
    if not stopped:
        with run.watchdog.busy("summing up"):  # the others have ended by now
            run.report()
    saved = max(run.checkpoints.steps(), default=0)
    return Result(run.step, stopped, evaluated or {}, saved)


def _steps(
    run: "Run", preemption: "Preemption", evaluated: dict[str, float] | None
) -> tuple[bool, dict[str, float] | None]:
    """Takes steps to the end; whether it was stopped before, and the last evaluation."""
    from flanx.sharding.mesh import to_device
    from flanx.training.program import InFlight

    config, program, watchdog, clock = run.config, run.program, run.watchdog, run.clock
    in_flight, first = InFlight(), True
    with run.batches() as batches:
        while run.step < config.train_steps:
            run.profile.before(run.step + 1, run.sums)
            with run.profile.step(run.step + 1):
                watchdog.doing = "starting" if first else DATA
                with clock.waiting():
                    batch = next(batches)
                watchdog.doing = DEVICES if not first else "compiling"
                run.skips.remember(run.step + 1, batch.arrays)
                arrays = to_device(program.mesh, batch.arrays)
                run.state, run.sums, tick = program.step(run.state, run.sums, arrays, program.rng)
            run.step += 1
            run.loader = batch.state_after
            run.profile.after(run.step, tick)
            with clock.on_devices():
                ended = in_flight.add(run.step, tick)
            if ended is not None:
                _check_skips(run, *ended)
            clock.step()
            if first:
                first = False
                tick.block_until_ready()
                run.say_first_step()
                clock.restart()
            step = run.step
            watchdog.step(step)
            run.hold(read=False)
            end = step == config.train_steps
            if step % config.log_period == 0 or end:
                _log(run)
            stop = preemption.asked(step)
            with clock.paused():
                if stop:
                    run.writers.say(f"{preemption.name or 'preemption'}: stopping at step {step:,}")
                    _save(run, None)
                    return True, evaluated
                evaluated = _evaluate_and_save(run, preemption, end) or evaluated
    return False, evaluated


def _log(run: "Run") -> None:
    """One line of metrics; an unfinished period's sums stay, for a run that goes on from here."""
    import jax

    from flanx.training import metrics

    run.watchdog.doing = DEVICES
    with run.clock.on_devices():
        sums = jax.device_get(run.sums)
    _check_skips(run, run.step, sums[metrics.IN_A_ROW])
    run.watchdog.doing = "writing logs"
    values = metrics.summarise(sums, run.task_names) | run.clock.rates(sums)
    run.writers.train(run.step, values)
    run.answers.flush()
    run.watchdog.doing = DEVICES  # by which the processes tell each other of their saves
    run.checkpoints.poll(run.step)
    if run.step % run.config.log_period == 0:
        run.sums = run.program.zero_sums(after=run.sums)
    run.clock.restart()


def _evaluate_and_save(run: "Run", preemption: "Preemption", end: bool) -> dict[str, float] | None:
    """What is due after a step.

    A save goes first, so that a kill during a long evaluation loses nothing; only where the best checkpoint is kept
    does it wait for its metric, and then every evaluation is worth a checkpoint.
    """
    config = run.config
    evaluate = _evaluation_due(run, run.step)
    by_metric = config.checkpoint.best_metric is not None and evaluate
    save = end or by_metric or run.checkpoints.due(run.step)
    if save and not by_metric:
        _save(run, None)
    values = _evaluate(run, preemption) if evaluate else None
    if by_metric:
        _save(run, values)
    return values


def _evaluation_due(run: "Run", step: int) -> bool:
    config = run.config
    if not config.evals:
        return False
    if step == 0:
        return config.eval_at_start
    return step == config.train_steps or (config.eval_period > 0 and step % config.eval_period == 0)


def _evaluate(run: "Run", preemption: "Preemption") -> dict[str, float]:
    """Runs all suites; a signal ends it at the next batch, and the run that goes on does it again."""
    single = run.single_process

    def progress(done: int, total: int, suite: str) -> None:
        if single and preemption.name is not None:
            raise _Stopped
        run.writers.evaluating(done, total, suite)

    _check_skips_now(run)
    with run.watchdog.busy("evaluating"):
        values = run.evaluator().run(run.state.params, run.step, progress)
    run.writers.evaluation(run.step, values)
    for line in run.evaluation_failures():
        run.writers.say(line)
    return values


def _save(run: "Run", evaluation: dict[str, float] | None) -> None:
    """Saves, but not while updates are being skipped; the last step of a run is saved if that may be chance."""
    skipped = _check_skips_now(run)
    end = run.step == run.config.train_steps
    if skipped and end:
        run.skips.check_end(run.step, skipped, run.checkpoints.folder)
        times = "update was" if skipped == 1 else f"{skipped} updates were"
        run.writers.say(
            f"the last {times} skipped (loss or gradient not finite): the parameters saved are those of step "
            f"{run.step - skipped:,}"
        )
    run.unsaved = skipped > 0 and not end
    if run.unsaved:
        run.checkpoints.postpone(run.step)
        return
    with run.watchdog.busy("saving"):
        run.checkpoints.save(
            run.state,
            run.sums,
            run.loader.to_json(),
            evaluation,
            step=run.step,
            skips=run.skips.to_json(),
        )


def _check_skips(run: "Run", step: int, in_a_row: Any) -> None:
    """Ends a run that skips every update; `in_a_row` is what had been skipped after `step`."""
    checkpoints = run.checkpoints
    run.skips.check(
        step,
        in_a_row,
        checkpoints.steps,
        checkpoints.folder,
        lambda: float(run.sums["learning_rate"]),
    )
    checkpoints.before_skips = run.skips.before


def _check_skips_now(run: "Run") -> int:
    """How many updates have been skipped in a row; before anything is written, the steps in flight count as well."""
    from flanx.training.metrics import IN_A_ROW

    run.watchdog.doing = DEVICES
    with run.clock.on_devices():
        in_a_row = int(run.sums[IN_A_ROW])
    _check_skips(run, run.step, in_a_row)
    return in_a_row
