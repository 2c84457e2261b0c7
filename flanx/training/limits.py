"""What a run's settings must keep to, told before anything is prepared."""

import dataclasses
from collections.abc import Callable
from typing import Any

from flanx.errors import UserError, did_you_mean
from flanx.training.assignment import check_rules
from flanx.training.config import TrainConfig
from flanx.training.profiling import steps_to_profile

RESTORES = ("none", "state", "state_with_step_reset")
GENERATORS = ("threefry2x32", "rbg", "unsafe_rbg")
LARGEST_FLOAT = 3.4e38  # about float32's
LARGEST_COUNT = 2**31 - 1  # metrics count tokens in int32 between log lines

Rule = tuple[Callable[[Any], bool], str]
_ONE: Rule = (lambda value: value >= 1, "give 1 or more")
_ZERO: Rule = (lambda value: value >= 0, "give 0 or more")
_POSITIVE: Rule = (lambda value: value > 0, "give more than 0, or None")

RULES: dict[str, Rule] = {
    "train_steps": _ONE,
    "batch_size": _ONE,
    "microbatches": _ONE,
    "log_period": _ONE,
    "eval_period": _ZERO,
    "eval_steps": _ONE,
    "gradient_clip": _POSITIVE,
    "seed": (lambda value: 0 <= value < 2**32, "give 0 to 4294967295"),
    "prng": (lambda value: value in GENERATORS, f"one of {', '.join(GENERATORS)}"),
    "restore_optimizer": (lambda value: value in RESTORES, f"one of {', '.join(RESTORES)}"),
    "loss.z_loss": _ZERO,
    "loss.label_smoothing": (lambda value: 0 <= value < 1, "give 0 or more, less than 1"),
    "loss.normalizing_factor": _POSITIVE,
    "most_skipped_in_a_row": _ONE,
    "hang_seconds": _POSITIVE,
    "checkpoint.period": _ONE,
    "checkpoint.keep": _ONE,
    "checkpoint.keep_best": _ONE,
    "checkpoint.best_mode": (lambda value: value in ("max", "min"), "max or min"),
    "mesh.replica": (
        lambda value: value >= 1 or value == -1,
        "give 1 or more, or -1 for one a slice",
    ),
    "mesh.data": (
        lambda value: value >= 1 or value == -1,
        "give 1 or more, or -1 for what is left",
    ),
    "mesh.model": _ONE,
}


def check(config: TrainConfig) -> None:
    """Refuses settings that no run could do with; None, where a setting allows it, is always right.

    Raises:
      UserError: naming the setting, its value, and what it may be.
    """
    for path, (right, mend) in RULES.items():
        owner, value = config, config
        for name in path.split("."):
            owner, value = value, getattr(value, name)
        if value is not None and not right(value):
            name = path.rpartition(".")[2]
            raise UserError(f"{type(owner).__name__}.{name} is {value!r}: {mend}")
    _check_finite(config)
    if "://" in config.model_dir:
        raise UserError(
            f"MODEL_DIR {config.model_dir}: a run appends to its files and renames them, so they lie in a folder: "
            "mount the bucket (run_tpu.sh --mount, or gcsfuse) and give the folder there"
        )
    check_rules(config.assignment)
    profiled = steps_to_profile(config.profile_steps)
    if profiled is not None and profiled[0] > config.train_steps:
        raise UserError(
            f"PROFILE_STEPS begins with step {profiled[0]}, and TRAIN_STEPS is {config.train_steps}: give the "
            "first and the last step to trace, say (2, 4)"
        )
    if config.initial_checkpoint_path is None and (
        config.restore_optimizer != "none" or config.assignment
    ):
        raise UserError(
            "RESTORE_OPTIMIZER and ASSIGNMENT say what to take of INITIAL_CHECKPOINT_PATH, which is not set"
        )
    for feature in ("inputs", "targets"):
        if feature not in config.data.feature_lengths:
            raise UserError(
                f"TASK_FEATURE_LENGTHS has no '{feature}'{did_you_mean(feature, config.data.feature_lengths)}: "
                'give {"inputs": n, "targets": m}'
            )
    if config.checkpoint.best_metric is not None and not config.evals:
        raise UserError(
            f"CheckpointConfig.best_metric is '{config.checkpoint.best_metric}', and the run has no evaluation to "
            "measure it: bind TrainConfig.evals, or leave best_metric out"
        )
    cells = config.batch_size * sum(config.cells.values())
    if cells * config.log_period > LARGEST_COUNT:
        raise UserError(
            f"TrainConfig.log_period is {config.log_period}: give {max(LARGEST_COUNT // cells, 1)} or less for "
            f"batches of {cells:,} tokens"
        )


def _check_finite(settings: Any) -> None:
    """Refuses numbers that are infinite or none, or would be as float32, in a dataclass and those that it holds."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        for part in value if isinstance(value, list | tuple) else (value,):
            if dataclasses.is_dataclass(part) and not isinstance(part, type):
                _check_finite(part)
            elif isinstance(part, float) and not abs(part) <= LARGEST_FLOAT:
                raise UserError(
                    f"{type(settings).__name__}.{field.name} is {value!r}: give a finite number, at most "
                    f"{LARGEST_FLOAT:.2g} (float32)"
                )
            elif field.name == "learning_rate" and isinstance(part, int | float) and part < 0:
                raise UserError(
                    f"{type(settings).__name__}.learning_rate is {value!r}: the loss would rise; give 0 or more"
                )
