"""A run's compiled functions: parameters born on their devices, and the step that the loop calls."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from flanx import models
from flanx.interop.source import Source
from flanx.models.common import cudnn, scanned
from flanx.sharding import constraints
from flanx.sharding.mesh import batch_sharding, replicated, rules_of, to_every_device
from flanx.sharding.trees import path_names, with_shardings
from flanx.training import initial, metrics, xla_flags
from flanx.training.assignment import Rules
from flanx.training.config import TrainConfig
from flanx.training.state import TrainState, new_state, state_shardings
from flanx.training.step import batch_shapes, make_train_step, metric_shapes

Sums = dict[str, jax.Array]
# Steps that may be dispatched before the oldest has ended: enough to keep a device busy, few enough to stop soon.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Program:
    """What the loop runs.

    Attributes:
      model: the network.
      mesh: the devices.
      state: `jax.ShapeDtypeStruct`s of the whole state, with shardings.
      sums: the same of metric sums.
      step: `(state, sums, batch, rng) -> (state, sums, updates skipped in a row)`; state and sums are donated.
    """

    model: Any
    mesh: Mesh
    state: TrainState
    sums: Sums
    step: "CompiledStep"
    _rng: Callable[[], jax.Array]
    _fresh: Callable[[], TrainState]
    _fresh_params: initial.Fresh
    _around: Callable[[Any], TrainState]

    @cached_property
    def rng(self) -> jax.Array:
        """The run's key, from which steps make theirs, on every device."""
        return self._rng()

    def fresh_state(self) -> TrainState:
        """Random parameters, the same on any mesh, each made on the devices that hold it."""
        return self._fresh()

    def state_from(self, source: Source, rules: Rules = (), restore: str = "none") -> TrainState:
        """Step 0 with the parameters of a checkpoint of any form.

        Args:
          source: the checkpoint.
          rules: which of its arrays go where (`flanx.training.assignment`).
          restore: what of its optimizer is taken over, as `TrainConfig.restore_optimizer` says.

        Raises:
          UserError: arrays or slots that do not fit; all of them, before any is read.
        """
        like, fresh = self.state, self._fresh_params
        if restore == "none":
            return self._around(
                initial.restore_params(source, like.params, rules=rules, fresh=fresh)
            )
        opt_state = initial.restore_optimizer(
            source, like.opt_state, like.params, restore=restore, rules=rules
        )
        params = initial.restore_params(source, like.params, rules=rules, fresh=fresh)
        zero = to_every_device(self.mesh, {"step": np.zeros((), np.int32)})["step"]
        return TrainState(zero, params, opt_state)

    def zero_sums(self, after: Sums | None = None) -> Sums:
        """Nothing summed yet; what runs on over log lines is kept of the sums `after` which these come."""
        zeros = {name: np.zeros(x.shape, x.dtype) for name, x in self.sums.items()}
        new = to_every_device(self.mesh, zeros)
        return new if after is None else new | {metrics.IN_A_ROW: after[metrics.IN_A_ROW]}


def check(config: TrainConfig, mesh: Mesh) -> None:
    """Refuses what cannot be compiled for these devices.

    Raises:
      UserError: naming the setting.
    """
    config.batch_format()
    if config.evals:
        models.check_answers(config.model)
    lengths = config.model.row_lengths(config.cells)
    cudnn.check(config.model, lengths.values(), mesh.devices.flat[0].platform)


def build(config: TrainConfig, mesh: Mesh, num_tasks: int) -> Program:
    """Everything that depends on the configuration alone; hardly anything is traced yet, and nothing compiled."""
    check(config, mesh)
    model, rules = models.build(config.model), rules_of(config.mesh)
    axes_of = config.model.parameters().logical_axes
    schedule = config.schedule.build()
    optimizer = config.optimizer.build(schedule, _stack_axis)
    train_step = make_train_step(
        model,
        optimizer,
        schedule,
        config.loss,
        num_tasks=num_tasks,
        microbatches=config.microbatches,
        gradient_clip=config.gradient_clip,
        mesh=mesh,
    )

    # Drawn layer-stacked: a quarter of the program to compile at 24 layers, and the same numbers scanned or not.
    stacked = models.build(replace(config.model, scan_layers=True))

    @jax.jit  # its trace serves the shapes and the sharded call alike
    def fresh(seed: jax.Array) -> TrainState:
        with constraints.placed(mesh, rules):
            params = constraints.constrain_params(
                models.init_params(stacked, jax.random.key(seed)), axes_of
            )
        if not config.model.scan_layers:
            params = scanned.to_unrolled(params)
        return new_state(params, optimizer)

    seed = np.uint32(config.seed)
    abstract = jax.eval_shape(fresh, seed)
    places = state_shardings(abstract, mesh, axes_of, rules)
    everywhere = replicated(mesh)
    make_rng = partial(jax.random.key, impl=config.prng)

    def step(state: TrainState, sums: Sums, batch: Any, key: jax.Array) -> Any:
        with constraints.placed(mesh, rules):
            state, new = train_step(state, batch, key)
        sums = metrics.add(sums, new)
        return state, sums, sums[metrics.IN_A_ROW]

    jitted = jax.jit(
        step,
        in_shardings=(places, everywhere, batch_sharding(mesh), everywhere),
        out_shardings=(places, everywhere, everywhere),
        donate_argnums=(0, 1),
    )
    sums = metric_shapes(num_tasks)
    batch = batch_shapes(config.batch_format(), config.batch_size)
    arguments = (abstract, sums, batch, jax.eval_shape(make_rng, seed))
    return Program(
        model=model,
        mesh=mesh,
        state=with_shardings(abstract, places),
        sums=with_shardings(sums, jax.tree.map(lambda _: everywhere, sums)),
        step=CompiledStep(
            partial(jitted.lower, *arguments), xla_flags.options(mesh.devices.flat[0].platform)
        ),
        _rng=partial(jax.jit(make_rng, out_shardings=everywhere), seed),
        _fresh=partial(jax.jit(lambda s: fresh(s), out_shardings=places), seed),
        _fresh_params=partial(_some_params, fresh, seed, places.params),
        _around=jax.jit(
            lambda params: new_state(params, optimizer), out_shardings=places, donate_argnums=0
        ),
    )


class CompiledStep:
    """A step that compiles beside other work: `start` traces it and returns, the first call waits for the rest.

    XLA compiles without Python's lock, so a second core does it while this one makes or restores parameters.
    """

    def __init__(self, lower: Callable[[], Any], options: xla_flags.Options):
        self._lower, self._options = lower, options
        self._compiling: Future[Any] | None = None
        self._compiled: Any = None

    def ahead_of_time(self, options: xla_flags.Options | None = None) -> Any:
        """Traces and compiles here and now (`jax.stages.Compiled`): the devices need not be there.

        `options` are compiler settings to take instead of those known to be good.
        """
        return xla_flags.compiled(self._lower(), self._options if options is None else options)

    def start(self) -> None:
        """Traces in this thread and compiles in another; calling it again changes nothing."""
        if self._compiling is None:
            executor = ThreadPoolExecutor(1, "flanx-compile")
            self._compiling = executor.submit(xla_flags.compiled, self._lower(), self._options)
            executor.shutdown(wait=False)

    def __call__(self, *arguments: Any) -> Any:
        if self._compiled is None:
            self.start()
            assert self._compiling is not None
            self._compiled = self._compiling.result()
        return self._compiled(*arguments)


class InFlight:
    """Lets the host run a little ahead of the devices, not further."""

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, jax.Array]] = deque()

    def add(self, step: int, tick: jax.Array) -> tuple[int, int] | None:
        """Waits for the step `IN_FLIGHT` before this one, and returns its number and its tick's value.

        Args:
          step: number of the step just dispatched.
          tick: an int32 output of it; its way to the host begins now, so that nothing waits for it later.
        """
        tick.copy_to_host_async()
        self._ticks.append((step, tick))
        if len(self._ticks) <= IN_FLIGHT:
            return None
        ended, value = self._ticks.popleft()
        return ended, int(value)


def _some_params(
    fresh: Callable[[Any], TrainState], seed: Any, places: Any, wanted: frozenset[initial.Names]
) -> dict[initial.Names, jax.Array]:
    """Of all fresh parameters those at the wanted paths; the others are never made."""

    def among(tree: Any) -> dict[initial.Names, Any]:
        named = ((path_names(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree))
        return {names: leaf for names, leaf in named if names in wanted}

    return jax.jit(lambda s: among(fresh(s).params), out_shardings=among(places))(seed)


def _stack_axis(path: tuple[str, ...]) -> int | None:
    """Scanned layers lie along the first axis (`flanx.models.common.scanned`)."""
    return 0 if "layers" in path else None
