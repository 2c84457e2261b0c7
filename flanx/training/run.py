"""Everything that a run holds while it trains, and how it comes to hold it: data, program, checkpoint, writers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flanx.data import loader as loaders
from flanx.data import manifest as manifests
from flanx.data import vocabulary as vocabularies
from flanx.data.loader import LoaderState
from flanx.data.manifest import Manifest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.interop.source import Source
from flanx.terminal import command
from flanx.training import leftovers, limits, run_info
from flanx.training import program as programs
from flanx.training.board import Board
from flanx.training.checkpoint import Checkpoints
from flanx.training.clock import Clock
from flanx.training.config import TrainConfig
from flanx.training.hosts import agree, check_shared
from flanx.training.initial import check_model, check_optimizer, open_initial, restored_text
from flanx.training.mesh import check_batch, host_rows, make_mesh, rules_of, undivided
from flanx.training.metrics_file import evaluation_at
from flanx.training.mfu import steps_at_peak
from flanx.training.params_io import check_vocabulary
from flanx.training.profiling import Profile, steps_to_profile
from flanx.training.program import Program, Sums
from flanx.training.skips import Skips
from flanx.training.state import TrainState
from flanx.training.watchdog import Watchdog
from flanx.training.writers import AllWriters, NoWriters, Writers

PREFETCH = 4  # batches made ahead of the step


@dataclass
class Run:
    """A run at a step.

    Attributes:
      config: what was asked for.
      program: compiled functions.
      manifest: the training mixture; `eval_manifests` those of `config.evals`.
      vocabulary: of all of them.
      checkpoints: the MODEL_DIR's.
      writers: logs.
      clock: what the seconds between two log lines go to.
      profile: the trace asked for, if any.
      watchdog: notices when no step ends any more.
      skips: notices when every update is skipped.
      state, sums, loader, step: what the next step starts from.
      began: when the command did, for telling how long the first step took.
    """

    config: TrainConfig
    program: Program
    manifest: Manifest
    eval_manifests: list[Manifest]
    vocabulary: Vocabulary
    checkpoints: Checkpoints
    writers: Writers
    clock: Clock
    profile: Profile
    watchdog: Watchdog
    skips: Skips
    state: TrainState
    sums: Sums
    loader: LoaderState
    step: int
    began: float
    _evaluator: Any = field(default=None)

    @property
    def task_names(self) -> list[str]:
        """In the order of `decoder_task_ids`."""
        return [entry.task for entry in self.manifest.entries]

    @property
    def single_process(self) -> bool:
        return jax.process_count() == 1

    def batches(self) -> "loaders.Prefetch[Any]":
        """This process's rows from the run's place in the stream on, made ahead of time by a thread."""
        data = self.config.data
        loader = loaders.Loader(
            self.manifest,
            data.cache_dir,
            batch_size=self.config.batch_size,
            feature_lengths=data.feature_lengths,
            seed=self.config.seed,
            state=self.loader,
            host_rows=host_rows(self.program.mesh, self.config.batch_size),
            pack=data.packing,
            block_size=data.block_size,
        )
        return loaders.prefetch(loader, PREFETCH)

    def evaluator(self) -> Any:
        """The evaluator, made when first needed."""
        if self._evaluator is None:
            from flanx.evaluation.evaluator import Evaluator

            self._evaluator = Evaluator(
                self.program.model,
                self.vocabulary,
                self.config.evals,
                self.eval_manifests,
                self.config.data.cache_dir,
                self.config.model_dir,
                mesh=self.program.mesh,
                eval_steps=self.config.eval_steps,
            )
        return self._evaluator

    def evaluation_at(self, step: int) -> dict[str, float] | None:
        """What metrics.jsonl says of an evaluation at `step`; processes other than 0 learn whether it says anything."""
        found = evaluation_at(self.config.model_dir, step) if jax.process_index() == 0 else None
        if self.single_process:
            return found
        from jax.experimental import multihost_utils

        known = multihost_utils.broadcast_one_to_all(np.int32(found is not None))
        return (found or {}) if known else None

    def say_first_step(self) -> None:
        """Told once, when the first step of this process is done."""
        seconds = time.perf_counter() - self.began
        self.writers.say(f"step {self.step:,} done {seconds:.1f} s after the start")

    def report(self) -> None:
        """Table, summary.json and curves of a finished run."""
        if jax.process_index() == 0:
            from flanx.evaluation import summary

            self.writers.close()
            summary.report(self.config.model_dir, self.writers.console)
            folder = self.config.model_dir
            if self.config.evals:
                self.writers.say(f"predictions, summary.json and curves.png: {folder}")
            self.writers.say(f"ask the model: {command('flanx', 'infer', folder)} --prompt '...'")


def open_run(
    config: TrainConfig,
    *,
    config_text: str | None,
    devices: Sequence[jax.Device] | None,
    began: float,
) -> Run:
    """Prepares data, builds the program, and restores the newest checkpoint or makes step 0.

    Raises:
      UserError: see `flanx.training.loop.train`.
    """
    limits.check(config)
    config = _with_whole_paths(config)
    Path(config.model_dir).mkdir(parents=True, exist_ok=True)
    check_shared(config.model_dir)
    run_info.check_configuration(config)
    mesh = make_mesh(config.mesh, devices)
    check_batch(mesh, config.batch_size, config.microbatches)
    begun = run_info.has_checkpoint(config.model_dir)
    source = None if begun else _initial_source(config)
    manifest, *eval_manifests = _manifests(config)
    vocabulary = vocabularies.load(manifest.vocabulary["spec"], config.data.data_dir)
    if vocabulary.size > config.model.vocab_size:
        raise UserError(
            f"vocabulary '{vocabulary.spec}' has {vocabulary.size} ids, and the model's vocab_size is "
            f"{config.model.vocab_size}: raise T5Config.vocab_size"
        )
    facts = run_info.facts(config, manifest, vocabulary)
    run_info.check_data(config, facts)
    if source is not None:
        check_vocabulary(source.vocabulary, facts["vocabulary"], str(source.path))
    program = programs.build(config, mesh, len(manifest.entries))

    primary = jax.process_index() == 0
    told: list[str] = []
    if whole := undivided(program.state.params, mesh, rules_of(config.mesh)):
        told.append(whole)
    checkpoints = Checkpoints(config.model_dir, config.checkpoint, facts, told.append)
    if max(checkpoints.steps(), default=0) < config.train_steps:
        program.step.start()
    restored = checkpoints.restore_newest(program.state, program.sums)
    if restored is not None:
        state, sums, step = restored.state, restored.sums, restored.step
        place = LoaderState.from_json(restored.loader)
    else:
        source = source or _initial_source(config)
        state = _first_state(config, program, source, told)
        sums, step, place = program.zero_sums(), 0, LoaderState()
    if primary:
        leftovers.remove(config.model_dir)
        run_info.write(config, facts, vocabulary, program.state.params, config_text)
    writers: Writers = (
        AllWriters(
            config.model_dir, step=step, total=config.train_steps, log_period=config.log_period
        )
        if primary
        else NoWriters()
    )
    for text in [*told, _where_from(config, step, source)]:
        writers.say(text)
    checkpoints.warn = writers.say
    clock = Clock(steps_at_peak(config, list(mesh.devices.flat)))
    profiled = steps_to_profile(config.profile_steps) if primary else None
    return Run(
        config=config,
        program=program,
        manifest=manifest,
        eval_manifests=eval_manifests,
        vocabulary=vocabulary,
        checkpoints=checkpoints,
        writers=writers,
        clock=clock,
        profile=Profile(config.model_dir, profiled, clock=clock, say=writers.say),
        watchdog=Watchdog(
            config.model_dir, Board.of_this_run(), limit=config.hang_seconds, ends=config.hang_exit
        ),
        skips=Skips(config.most_skipped_in_a_row, [entry.task for entry in manifest.entries]),
        state=state,
        sums=sums,
        loader=place,
        step=step,
        began=began,
    )


def _manifests(config: TrainConfig) -> list[Manifest]:
    """Of the training data and of every suite; process 0 prepares what is missing, the others wait for it."""
    requests = [config.data.request(), *map(config.data.eval_request, config.evals)]
    ensure = partial(manifests.ensure, requests, workers=config.data.cache_workers)
    return agree("preparing the data", ensure)


def _initial_source(config: TrainConfig) -> Source | None:
    """The checkpoint to start from, refused before any data is prepared for it; None where none is asked for."""
    start = config.initial_checkpoint_path
    if start is None:
        return None
    source = open_initial(start)
    check_model(source, config.model, config.assignment)
    check_optimizer(source, config.restore_optimizer)
    return source


def _first_state(
    config: TrainConfig, program: Program, source: Source | None, told: list[str]
) -> TrainState:
    """Step 0, from `source` or at random; `told` gets lines on what was chosen."""
    if source is None:
        return program.fresh_state()
    state = program.state_from(source, config.assignment, config.restore_optimizer)
    if not source.assumed:  # what arrays leave open, MODEL says
        told += source.notes
    if config.restore_optimizer != "none":
        told.append(restored_text(source, config.restore_optimizer))
    return state


def _where_from(config: TrainConfig, step: int, source: Source | None) -> str:
    """Says where the parameters come from, and that a checkpoint in MODEL_DIR hides any other."""
    start = config.initial_checkpoint_path
    if not step:
        if source is None:
            return "starting from random parameters"
        at = "" if source.step is None else f", step {source.step:,}"
        return f"starting from {start} ({source.form}{at})"
    text = f"going on from step {step:,} of {config.model_dir}"
    if start:
        text += (
            f"; INITIAL_CHECKPOINT_PATH = {start} is not read again (choose another MODEL_DIR to start "
            "from it)"
        )
    return text


def _with_whole_paths(config: TrainConfig) -> TrainConfig:
    """`~` and relative folders are settled once."""
    data = replace(config.data, cache_dir=_whole(config.data.cache_dir))
    return replace(config, model_dir=_whole(config.model_dir), data=data)


def _whole(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())
