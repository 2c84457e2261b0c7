"""Checkpoints of a run: written by orbax in the background, whole or not at all, and read back to the byte.

    <model_dir>/checkpoints/<step>/
      params/   the parameters, nested as in the model (read alone by `flanx.training.params_io`)
      train/    step, optimizer state, and the metric sums since the last line of metrics.jsonl
      run/      JSON: format version, place in the data, model, vocabulary and manifest fingerprints
      metrics/  JSON: the value of `best_metric`, where there is one
      digests.json  of every file of the first three, written before the folder gets its name (`flanx.digests`)

A save copies the arrays to the host and returns; orbax writes them to a temporary folder and renames it. What a kill
leaves behind is never listed as a checkpoint. A save that fails costs nothing but itself: it is tried again, with the
parameters of then, after a tenth of the period, for as long as it takes.
"""

import asyncio
import gc
import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.path import atomicity

from flanx import atomic_files, digests, system_errors, temporary
from flanx.errors import UserError, did_you_mean
from flanx.sharding.trees import path_names
from flanx.training import retention
from flanx.training.assignment import assign
from flanx.training.config import CheckpointConfig
from flanx.training.params_io import (
    FORMAT_VERSION,
    check_vocabulary,
    read_facts,
    read_tree,
    stored_shapes,
)
from flanx.training.state import TrainState

ITEMS = ("params", "train", "run")
RETRIES = 10  # tries of a save that fails, in a period
UNFINISHED = "*.orbax-checkpoint-tmp"


@dataclass(frozen=True)
class Restored:
    """What a checkpoint held.

    Attributes:
      state: parameters, optimizer state, step.
      sums: metric sums of the unfinished log period.
      loader: the loader's place (JSON).
      skips: what `Skips` knew of skipped updates (JSON).
    """

    state: TrainState
    sums: dict[str, jax.Array]
    loader: dict[str, Any]
    skips: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.state.step)


class Checkpoints:
    """The checkpoints of one MODEL_DIR.

    Attributes:
      folder: `<model_dir>/checkpoints`.
      warn: told, in one line, of a save that failed or a checkpoint that is damaged.
      before_skips: the step after which updates began to be skipped, if any were: its checkpoint stays.
    """

    def __init__(
        self,
        model_dir: str | Path,
        config: CheckpointConfig,
        facts: Mapping[str, Any],
        warn: Callable[[str], None],
        hold: Callable[[], None] = lambda: None,
    ):
        """Opens the folder, makes it if need be.

        Args:
          model_dir: where the run lives.
          config: what to keep.
          facts: JSON to store with each checkpoint: model, vocabulary, manifest.
          warn: see above.
          hold: asked before anything is deleted or overwritten; raises where MODEL_DIR is another process's by now.
        """
        self.before_skips: int | None = None
        self._hold = hold
        self.folder = Path(model_dir).absolute() / "checkpoints"
        self._config, self._facts, self.warn = config, dict(facts), warn
        self._saving: int | None = None
        self._retry_at: int | None = None
        self._failing = self._postponed = False
        self._error = ""
        self._fix: str | None = None
        self._every = max(config.period // RETRIES, 1)
        self._manager = self._open()

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def due(self, step: int) -> bool:
        """Whether to save after `step`: the period has passed, or the last save failed some steps ago."""
        retry = self._retry_at is not None and step >= self._retry_at
        return retry or step % self._config.period == 0

    def save(
        self,
        state: TrainState,
        sums: Mapping[str, jax.Array],
        loader: Mapping[str, Any],
        evaluation: Mapping[str, float] | None,
        *,
        step: int,
        skips: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts to save; training may go on (and donate `state`) as soon as this returns.

        Whatever goes wrong is told by `warn`, now or at a later `poll`, and training goes on.

        Args:
          state: after `step` steps.
          sums: metrics summed since the last log line.
          loader: JSON of the loader's state after `step` steps.
          evaluation: metrics of an evaluation at this very step, for `best_metric`.
          step: number of steps taken, as a Python number (to spare a wait for the device).
          skips: JSON of what is known of skipped updates.

        Raises:
          UserError: the evaluation does not know `best_metric`, or MODEL_DIR is another process's by now.
        """
        self._hold()
        if step in self._manager.all_steps():
            return
        best = self._best(evaluation)
        run = {**self._facts, "format_version": FORMAT_VERSION, "step": step, "loader": loader}
        run["skips"] = dict(skips or {})
        train = {"step": state.step, "opt_state": _nested(state.opt_state), "sums": dict(sums)}
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(state.params),
            train=ocp.args.StandardSave(train),
            run=ocp.args.JsonSave(run),
        )
        self.poll(step, wait=True)
        self._retry_at, self._saving, self._error, self._fix = None, step, "", None
        self._postponed = False
        try:
            self._probe()
        except OSError as error:
            self._refused(error)
        if _FAILED in _everybodys(_FAILED if self._error else _DONE):
            return  # orbax's threads would wait for a folder that nobody makes
        try:
            self._manager.save(step, args=items, metrics=best, force=True)
        except Exception as error:
            self._refused(error)

    def postpone(self, step: int) -> None:
        """Puts off what is due after `step`, where updates are being skipped: what is kept is from before that."""
        self._retry_at = step + self._every
        if not self._postponed:
            self.warn(
                "updates are being skipped (loss or gradient not finite): nothing is saved until one is taken again"
            )
        self._postponed = True

    def add_evaluation(self, step: int, evaluation: Mapping[str, float]) -> None:
        """Metrics for a checkpoint that was saved before its evaluation was done, as a run that is stopped does.

        Raises:
          UserError: the evaluation does not know `best_metric`; told of steps without a checkpoint (step 0) too.
        """
        best = self._best(evaluation)
        self._hold()
        saved = best is not None and step in self._manager.all_steps()
        if saved and self._manager.metrics(step) is None:
            if jax.process_index() == 0:
                atomic_files.write(
                    self.folder / str(step) / "metrics" / "metrics", json.dumps(best)
                )
            self._manager.reload()

    def poll(self, step: int, *, wait: bool = False, tell: bool = True) -> None:
        """Tells of a background save that has failed; with `wait`, first lets it end.

        All processes ask after the same `step`, and learn of each other's failures.
        """
        if self._saving is None:
            return
        outcomes = _everybodys(self._outcome(wait))
        if _WRITING in outcomes:
            return
        if _FAILED in outcomes:
            self._error = self._error or f"on process {outcomes.index(_FAILED)}"
            self._failed(step, tell)
            return
        if self._failing:
            self._sweep()
            self.warn(f"the checkpoint of step {self._saving} is saved: writing works again")
        self._saving, self._failing = None, False

    def _outcome(self, wait: bool) -> int:
        """How this process's part of the save that was begun stands."""
        if self._error:
            return _FAILED
        if not wait and self._manager.is_saving_in_progress():
            return _WRITING
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            self._refused(error)
        return _FAILED if self._error else _DONE

    def finish(self, *, needed: int | None = None) -> None:
        """Waits for the last save and closes.

        Args:
          needed: step that must be on disk when this returns.

        Raises:
          UserError: it is not.
        """
        self.poll(needed or 0, wait=True, tell=needed is None)
        steps = self.steps()
        self._manager.close()
        if self._failing:
            self._sweep()
        if needed is not None and needed not in steps:
            kept = f"step {steps[-1]}" if steps else "the beginning"
            reason = f" ({self._error})" if self._error else ""
            fix = f"{self._fix} and " if self._fix else ""
            raise UserError(
                f"the checkpoint of step {needed} could not be written to {self.folder}{reason}: {fix}"
                f"run the same command again (it goes on from {kept})"
            )

    def restore_newest(self, state: TrainState, sums: Mapping[str, Any]) -> Restored | None:
        """The newest whole checkpoint, or None where there is none.

        One that cannot be read is named by `warn`, moved to `<model_dir>/damaged/`, and the one before is tried.

        Args:
          state: `jax.ShapeDtypeStruct`s with shardings: what to restore and onto which devices.
          sums: the same for metric sums.

        Raises:
          UserError: the checkpoint is of another model, vocabulary or optimizer, or none can be read.
        """
        steps = self.steps()
        for step in reversed(steps):
            result = self._try_restore(step, state, sums)
            # Each process reads its own part: what one of them cannot read, none of them goes on from.
            outcomes = _everybodys(_DONE if isinstance(result, Restored) else _FAILED)
            if isinstance(result, Restored):
                if _FAILED not in outcomes:
                    return result
                result = f"on process {outcomes.index(_FAILED)}"
            before = [s for s in steps if s < step]
            self.warn(
                f"checkpoint {self.folder / str(step)} is damaged ({result}); "
                + (f"going back to step {before[-1]}" if before else "there is none before it")
            )
            self._set_aside(step)
        if steps:
            raise UserError(
                f"no checkpoint under {self.folder} can be read: choose another MODEL_DIR, or remove the "
                "folder to start again from step 0"
            )
        return None

    def _try_restore(self, step: int, state: TrainState, sums: Mapping[str, Any]) -> Restored | str:
        """The checkpoint, or why it cannot be read.

        Where one array fails, orbax drops the reads of the others, and each would complain on stderr when collected.
        """
        asyncio_log, hook = logging.getLogger("asyncio"), sys.unraisablehook
        asyncio_log.disabled, sys.unraisablehook = True, lambda _: None
        try:
            try:
                return self._restore(step, state, sums)
            except UserError:
                raise
            except Exception as error:
                reason = _reason(error)
            gc.collect()
            return reason
        finally:
            asyncio_log.disabled, sys.unraisablehook = False, hook

    def _restore(self, step: int, state: TrainState, sums: Mapping[str, Any]) -> Restored:
        folder = self.folder / str(step)
        # Each process looks at its share of the files, and learns what the others found.
        digests.check(folder, share=(jax.process_index(), jax.process_count()))
        facts = read_facts(folder)
        check_vocabulary(facts.get("vocabulary"), self._facts.get("vocabulary"), str(folder))
        train = {"step": state.step, "opt_state": _nested(state.opt_state), "sums": dict(sums)}
        there = {"/".join(path): shape for path, shape in stored_shapes(folder / "params").items()}
        here = {
            "/".join(path_names(p)): tuple(x.shape)
            for p, x in jax.tree.leaves_with_path(state.params)
        }
        assign(here, there, (), str(folder), "MODEL is not the checkpoint's")
        stored = stored_shapes(folder / "train")
        wanted = {path_names(p): tuple(x.shape) for p, x in jax.tree.leaves_with_path(train)}
        if stored != wanted:
            odd = "/".join(sorted(stored.items() ^ wanted.items())[0][0])
            raise UserError(
                f"{folder} was written with another optimizer or other tasks (they differ in '{odd}'): set them back, "
                "or start anew in another MODEL_DIR with this one as INITIAL_CHECKPOINT_PATH"
            )
        params = read_tree(folder / "params", state.params)
        train = read_tree(folder / "train", train)
        opt_state = _like(state.opt_state, train["opt_state"])
        return Restored(
            TrainState(train["step"], params, opt_state),
            train["sums"],
            facts["loader"],
            facts.get("skips", {}),
        )

    def _set_aside(self, step: int) -> None:
        self._hold()
        if jax.process_index() == 0:
            target = self.folder.parent / "damaged" / str(step)
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            (self.folder / str(step)).rename(target)
        _everybodys(_DONE)  # the others look when it is gone
        self._manager.reload()

    def _best(self, evaluation: Mapping[str, float] | None) -> dict[str, float] | None:
        name = self._config.best_metric
        if name is None or evaluation is None:
            return None
        if name not in evaluation:
            raise UserError(
                f"CheckpointConfig.best_metric: no evaluation metric '{name}'{did_you_mean(name, evaluation)}"
            )
        return {"best": float(evaluation[name])}

    def _failed(self, step: int, tell: bool) -> None:
        """Plans the next try. Orbax's manager goes on raising a failed save's error: a new one forgets it."""
        every = self._every
        self._retry_at = step + every
        if tell and not self._failing:
            self.warn(
                f"the checkpoint of step {self._saving} could not be saved to {self.folder} ({self._error}); training "
                f"goes on, and tries again every {every} step{'s' if every > 1 else ''}"
            )
        self._saving, self._failing = None, True
        try:
            self._manager.close()
        except Exception as ignored:
            del ignored  # the error just told
        self._sweep()  # before the new manager does so beside the next save, and stumbles over what is gone
        self._manager = self._open()
        gc.collect()  # what the failed save has left undone, or it would complain of that when the process ends

    def _refused(self, error: Exception) -> None:
        self._error, self._fix = _reason(error), system_errors.fix(error)

    def _probe(self) -> None:
        """Makes a folder where orbax will, and removes it: what does not work for it is known at once.

        Raises:
          OSError: it cannot be made.
        """
        if jax.process_index() == 0:
            probe = self.folder / f"{temporary.prefix()}probe"
            probe.mkdir(parents=True)
            probe.rmdir()

    def _sweep(self) -> None:
        """Makes room where nothing is being saved: orbax leaves what it wrote after it had given up."""
        self._hold()
        if jax.process_index() == 0:
            for folder in self.folder.glob(UNFINISHED):
                shutil.rmtree(folder, ignore_errors=True)

    def _open(self) -> ocp.CheckpointManager:
        ranked = self._config.best_metric is not None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=retention.policy(self._config, lambda: self.before_skips),
            best_fn=retention.best_value if ranked else None,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
            temporary_path_class=_path_class(self._complete),
            # Made in the background, a folder that cannot be made is waited for by orbax's threads for five minutes.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        )
        return ocp.CheckpointManager(self.folder, options=options, item_names=ITEMS)

    def _complete(self, folder: Path) -> None:
        """The last act before a checkpoint gets its name, and before older ones are deleted."""
        self._hold()
        digests.write(folder, ITEMS)


def _path_class(complete: Callable[[Path], None]) -> type:
    """Orbax's way of writing to a temporary name and renaming, with `complete` called in between, on process 0."""

    class Completed(atomicity.AtomicRenameTemporaryPath):
        async def finalize(self) -> None:
            if self.get_final().name.isdigit():
                await asyncio.to_thread(complete, Path(self.get()))
            await super().finalize()

    return Completed


_DONE, _WRITING, _FAILED = range(3)


def _everybodys(outcome: int) -> list[int]:
    """What each process found, on each of them."""
    if jax.process_count() == 1:
        return [outcome]
    return multihost_utils.process_allgather(np.int32(outcome)).tolist()


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}"


def _nested(tree: Any) -> dict[str, Any]:
    """An optimizer state as nested dicts named by its fields, which do not depend on optax's classes."""
    result: dict[str, Any] = {}
    for path, leaf in jax.tree.leaves_with_path(tree):
        *folders, name = path_names(path)
        place = result
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return result


def _like(template: Any, nested: Mapping[str, Any]) -> Any:
    """The inverse of `_nested`, with the structure of `template`."""

    def leaf(path: Any, _: Any) -> Any:
        value: Any = nested
        for name in path_names(path):
            value = value[name]
        return value

    return jax.tree_util.tree_map_with_path(leaf, template)
