"""One training run from its configuration: restore, step, log, evaluate, save, sum up."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flanx.training import hosts as processes
from flanx.training import startup
from flanx.training.config import TrainConfig

if TYPE_CHECKING:
    from flanx.training.preemption import Preemption
    from flanx.training.run import Run


@dataclass(frozen=True)
class Result:
    """How a run ended: steps taken, whether it was told to stop, and the last evaluation's metrics."""

    step: int
    preempted: bool
    metrics: dict[str, float] = field(default_factory=dict)


class _Stopped(Exception):
    """A signal came during an evaluation, which can be done again."""


def train(
    config: TrainConfig,
    *,
    config_text: str | None = None,
    devices: Sequence[Any] | None = None,
    hosts: processes.Hosts | None = None,
) -> Result:
    """Trains until `config.train_steps` steps are done, or a SIGTERM or SIGINT asks for an end.

    A MODEL_DIR with a checkpoint is gone on with: the run ends in the bytes in which it would have ended without the
    stop. Step 0 has the parameters at `initial_checkpoint_path`, or random ones.

    Args:
      config: the run.
      config_text: kept as MODEL_DIR/config.gin.
      devices: to train on; all of them unless given.
      hosts: the run's other processes, where no launcher tells of them.

    Raises:
      UserError: the configuration does not fit the data, the devices, or what MODEL_DIR holds.
    """
    began = time.perf_counter()
    startup.prepare(startup.compile_cache(config))
    processes.join(hosts or processes.Hosts())
    # Imported here, so that the libraries find the environment prepared.
    from flanx.training.preemption import Preemption
    from flanx.training.run import open_run

    run = open_run(config, config_text=config_text, devices=devices, began=began)
    try:
        with Preemption() as preemption:
            return _train(run, preemption)
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
            stopped, evaluated = _steps(run, preemption, evaluated)
        else:
            run.writers.say(f"all {last:,} steps are done already (TRAIN_STEPS); nothing to train")
    except _Stopped:
        stopped = True
        _save(run, None)
    run.checkpoints.finish(needed=run.step if run.step else None)
    if not stopped:
        run.report()
    return Result(run.step, stopped, evaluated or {})


def _steps(
    run: "Run", preemption: "Preemption", evaluated: dict[str, float] | None
) -> tuple[bool, dict[str, float] | None]:
    """Takes steps to the end; whether it was stopped before, and the last evaluation."""
    from flanx.training.clock import Clock
    from flanx.training.mesh import to_device
    from flanx.training.program import InFlight

    config, program = run.config, run.program
    clock, in_flight, first = Clock(), InFlight(), True
    with run.batches() as batches:
        while run.step < config.train_steps:
            with clock.waiting():
                batch = next(batches)
            arrays = to_device(program.mesh, batch.arrays)
            run.state, run.sums, tick = program.step(run.state, run.sums, arrays, program.rng)
            run.step += 1
            run.loader = batch.state_after
            in_flight.add(tick)
            clock.step()
            if first:
                first = False
                tick.block_until_ready()
                run.say_first_step()
                clock.restart()
            step = run.step
            end = step == config.train_steps
            if step % config.log_period == 0 or end:
                _log(run, clock)
            stop = preemption.asked(step)
            with clock.paused():
                if stop:
                    run.writers.say(f"{preemption.name or 'preemption'}: stopping at step {step:,}")
                    _save(run, None)
                    return True, evaluated
                evaluated = _evaluate_and_save(run, preemption, end) or evaluated
    return False, evaluated


def _log(run: "Run", clock: Any) -> None:
    """One line of metrics; an unfinished period's sums stay, for a run that goes on from here."""
    import jax

    from flanx.training import metrics

    sums = jax.device_get(run.sums)
    values = metrics.summarise(sums, run.task_names) | clock.rates(sums)
    run.writers.train(run.step, values)
    run.checkpoints.poll()
    if run.step % run.config.log_period == 0:
        run.sums = run.program.zero_sums()
    clock.restart()


def _evaluate_and_save(run: "Run", preemption: "Preemption", end: bool) -> dict[str, float] | None:
    """What is due after a step.

    A save goes first, so that a kill during a long evaluation loses nothing; only where the best checkpoint is kept
    does it wait for its metric, and then every evaluation is worth a checkpoint.
    """
    config = run.config
    evaluate = _evaluation_due(run, run.step)
    by_metric = config.checkpoint.best_metric is not None and evaluate
    save = end or by_metric or run.step % config.checkpoint.period == 0
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

    values = run.evaluator().run(run.state.params, run.step, progress)
    run.writers.evaluation(run.step, values)
    return values


def _save(run: "Run", evaluation: dict[str, float] | None) -> None:
    run.checkpoints.save(run.state, run.sums, run.loader.to_json(), evaluation, step=run.step)
