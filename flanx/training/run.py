"""Everything that a run holds while it trains, and how it comes to hold it: data, program, checkpoint, writers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from flanx import models, resources
from flanx.data import loader as loaders
from flanx.data import vocabulary as vocabularies
from flanx.data.loader import LoaderState
from flanx.data.manifest import Manifest
from flanx.data.request import StoreRequest
from flanx.data.vocabulary import Vocabulary
from flanx.errors import UserError
from flanx.evaluation import suites
from flanx.interop.source import Source
from flanx.prep import prepared
from flanx.sharding.mesh import check_batch, host_rows, make_mesh, rules_of
from flanx.sharding.params import undivided
from flanx.terminal import command
from flanx.training import leftovers, limits, run_folder, run_info
from flanx.training import program as programs
from flanx.training.board import Board
from flanx.training.checkpoint import Checkpoints
from flanx.training.clock import Clock
from flanx.training.config import TrainConfig
from flanx.training.hosts import agree
from flanx.training.initial import check_model, check_optimizer, open_initial, restored_text
from flanx.training.lease import Lease
from flanx.training.metrics_file import evaluation_at
from flanx.training.mfu import steps_at_peak
from flanx.training.params_io import check_vocabulary
from flanx.training.pending_files import PendingFiles
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
      lease: of MODEL_DIR; process 0 has it.
      unsaved: whether the last save was put off, because updates were being skipped.
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
    lease: Lease | None = None
    unsaved: bool = False
    _evaluator: Any = field(default=None)

    @property
    def task_names(self) -> list[str]:
        """In the order of `decoder_task_ids`."""
        return [entry.task for entry in self.manifest.entries]

    @property
    def single_process(self) -> bool:
        return jax.process_count() == 1

    def hold(self, *, read: bool = True) -> None:
        """Asks whether MODEL_DIR is still this run's (`flanx.training.lease.Lease.check`)."""
        if self.lease is not None:
            self.lease.check(read=read)

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
            batch_format=self.config.batch_format(
                self.vocabulary.bos_id if self.vocabulary.adds_bos else None
            ),
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
                write=self.answers.write,
                trained_on={entry.dataset for entry in self.manifest.entries},
            )
        return self._evaluator

    def evaluation_failures(self) -> list[str]:
        """Lines on users' metrics that failed in the last evaluation; training goes on without their scores."""
        from flanx.evaluation import scoring

        return scoring.lines(self.evaluator().failures)

    @cached_property
    def answers(self) -> PendingFiles:
        """What evaluations leave in MODEL_DIR/eval."""
        return PendingFiles(self.writers.say)

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

    def give_up_answers(self) -> None:
        """Tries once more to write answers that wait for room, and says which are lost."""
        self.answers.flush()
        if self.answers.waiting:
            self.writers.say(
                f"lost, for want of room: {', '.join(self.answers.waiting)}; `flanx eval` makes them again"
            )

    def report(self) -> None:
        """Table, summary.json and curves of a finished run, which it is without room for them too."""
        if jax.process_index() == 0:
            from flanx.evaluation import summary

            self.writers.close()
            folder = self.config.model_dir
            try:
                summary.report(folder, self.writers.console)
            except OSError as error:
                self.writers.say(
                    f"summary.json and curves.png cannot be written ({error.strerror}): the same command makes them "
                    "when there is room"
                )
                return
            if self.config.evals:
                self.writers.say(f"predictions, summary.json and curves.png: {folder}")
            if models.answers(self.config.model):
                self.writers.say(
                    f"ask the model: {command('flanx', 'infer', folder)} --prompt '...'"
                )


@dataclass(frozen=True)
class Checked:
    """What a start knows before it makes or reads anything of its own.

    Attributes:
      config: with whole paths.
      mesh: of all devices; None where other processes' devices belong to it, which are not joined.
    """

    config: TrainConfig
    mesh: Any


def open_run(
    checked: Checked,
    lease: Lease | None,
    *,
    config_text: str | None,
    began: float,
) -> Run:
    """Prepares data, builds the program, and restores the newest checkpoint or makes step 0.

    Args:
      checked: that `check_settings` gave.
      lease: of its MODEL_DIR, on process 0.
      config_text, began: see `flanx.training.loop.train`.

    Raises:
      UserError: see `flanx.training.loop.train`.
    """
    config, mesh = checked.config, checked.mesh
    source = check_folder(config)
    manifest, *eval_manifests = _manifests(config)
    vocabulary = vocabularies.load(manifest.vocabulary["spec"], config.data.data_dir)
    check_tokens(config, vocabulary, source)
    facts = run_info.facts(config, manifest, vocabulary)
    run_info.check_data(config, facts)
    program = programs.build(config, mesh, len(manifest.entries))

    primary = jax.process_index() == 0
    told: list[str] = run_info.notes(config.model_dir)
    if whole := undivided(
        program.state.params, mesh, config.model.parameters().logical_axes, rules_of(config.mesh)
    ):
        told.append(whole)
    hold = (lambda: None) if lease is None else lease.check
    checkpoints = Checkpoints(config.model_dir, config.checkpoint, facts, told.append, hold)
    if max(checkpoints.steps(), default=0) < config.train_steps:
        program.step.start()
    restored = checkpoints.restore_newest(program.state, program.sums)
    if restored is not None:
        state, sums, step = restored.state, restored.sums, restored.step
        place, skipped = LoaderState.from_json(restored.loader), restored.skips
    else:
        source = source or _initial_source(config)
        state = _first_state(config, program, source, told)
        sums, step, place, skipped = program.zero_sums(), 0, LoaderState(), {}
    skips = Skips(config.most_skipped_in_a_row, [entry.task for entry in manifest.entries], skipped)
    checkpoints.before_skips = skips.before
    hold()  # preparing the data may have taken hours
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
    told += suites.scopes(config.evals, eval_manifests, manifest)
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
        skips=skips,
        lease=lease,
        state=state,
        sums=sums,
        loader=place,
        step=step,
        began=began,
    )


def check_settings(
    config: TrainConfig, devices: Sequence[jax.Device] | None = None, *, joined: bool = True
) -> Checked:
    """Everything that can be refused before data is looked at; a start begins with it, and so does `--dry_run`.

    Args:
      config: what was asked for.
      devices: see `flanx.training.loop.train`.
      joined: whether this process knows the devices of all processes of the run.

    Raises:
      UserError: naming the first setting that is wrong.
    """
    limits.check(config)
    config = _with_whole_paths(config)
    requests_of(config)
    run_folder.check(config.model_dir)
    suites.check(config.evals)
    if config.data.vocabulary is not None:  # else the tasks' own, which are known with the data
        check_size(config, vocabularies.load(config.data.vocabulary, config.data.data_dir))
    mesh = None
    if joined:
        mesh = make_mesh(config.mesh, devices)
        check_batch(mesh, config.batch_size, config.microbatches)
        programs.check(config, mesh)
    return Checked(config, mesh)


def check_folder(config: TrainConfig) -> Source | None:
    """Refuses a MODEL_DIR whose run is another; the checkpoint to start from where MODEL_DIR has none of its own.

    Raises:
      UserError: naming what differs, or what is wrong with the checkpoint.
    """
    run_info.check_configuration(config)
    return None if run_info.has_checkpoint(config.model_dir) else _initial_source(config)


def check_tokens(config: TrainConfig, vocabulary: Vocabulary, source: Source | None) -> None:
    """Refuses a vocabulary that the model or the checkpoint to start from does not have.

    Raises:
      UserError: naming both.
    """
    check_size(config, vocabulary)
    if source is not None:
        check_vocabulary(source.vocabulary, run_info.identity(vocabulary), str(source.path))


def check_size(config: TrainConfig, vocabulary: Vocabulary) -> None:
    """Refuses a vocabulary with more ids than the model has embeddings."""
    if vocabulary.size > config.model.vocab_size:
        raise UserError(
            f"vocabulary '{vocabulary.spec}' has {vocabulary.size} ids, and the model's vocab_size is "
            f"{config.model.vocab_size}: raise {type(config.model).__name__}.vocab_size"
        )


def requests_of(config: TrainConfig) -> list[StoreRequest]:
    """The stores that the run reads: its training data's, then each suite's."""
    return [config.data.request(), *map(config.data.eval_request, config.evals)]


def _manifests(config: TrainConfig) -> list[Manifest]:
    """Of the training data and of every suite; process 0 prepares what is missing, the others wait for it."""
    ensure = partial(prepared.ensure, requests_of(config), workers=config.data.cache_workers)
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
    return path if "://" in path else str(resources.absolute(path))
