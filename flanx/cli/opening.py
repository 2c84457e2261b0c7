"""The configuration that a command works with when it is given a checkpoint: its own run's, or one from flags."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx.cli import gin_edge

if TYPE_CHECKING:
    from flanx.interop import Source
    from flanx.training.config import TrainConfig

MACROS = "runs/train.gin"  # so that a model's file alone, or none, makes a configuration


def configuration(
    args: argparse.Namespace, folder: Path, tasks: str = ""
) -> "tuple[TrainConfig, Source | None]":
    """A run's own config.gin with the flags after it. Where there is none, as for an export, a T5X checkpoint or a
    Hugging Face folder, the gin files of the command line; what those leave out is the checkpoint's own, or a default.
    A gin file that asks for what a run must say (runs/train.gin, which recipes include) has it of the run, too.

    Args:
      args: what `gin_edge.add_arguments` parsed.
      folder: of the checkpoint (`flanx.training.params_io.find_params`).
      tasks: stands in for MIXTURE_OR_TASK_NAME.

    Returns:
      The configuration, and the checkpoint where it had to be opened for that.

    Raises:
      UserError: as `gin_edge.build`; or no such checkpoint.
    """
    from flanx.evaluation import trained
    from flanx.training.config import TrainConfig

    if trained.has_config(folder):
        own = trained.config_file(folder)
        if not args.gin_file:
            return gin_edge.build(TrainConfig, args, run_file=own), None
        gin_edge.name_modules(args)  # which the run's own file may need
        alone = argparse.Namespace(**{**vars(args), "gin_file": [], "gin_binding": []})
        run = gin_edge.build(TrainConfig, alone, run_file=own)
        config = gin_edge.build(TrainConfig, args, run_file=own, defaults=_required(run))
        # A recipe's runs/train.gin says that there are none; the run's tasks are still of its modules.
        imports = tuple(dict.fromkeys([*run.data.imports, *config.data.imports]))
        return replace(config, data=replace(config.data, imports=imports)), None
    from flanx.interop import open_checkpoint

    source = open_checkpoint(str(folder))
    model = source.config
    if model is not None and not gin_edge.binds(args, "MODEL"):
        args, model = _with_dtype(args, model)
    defaults: dict[str, Any] = {
        "MODEL_DIR": str(folder),
        "MIXTURE_OR_TASK_NAME": tasks,
        "TASK_FEATURE_LENGTHS": dict(trained.lengths_of(folder) or trained.LENGTHS),
        "TRAIN_STEPS": 1,
    }
    if model is not None:
        defaults["MODEL"] = model
    return gin_edge.build(TrainConfig, args, extra_files=[MACROS], defaults=defaults), source


def compiled_programs(args: argparse.Namespace, config: "TrainConfig") -> str:
    """The folder of compiled programs with which a checkpoint is used, "" for none.

    Compiled programs are machine code. So it is the command's folder, or the user's own cache, and never one that a
    run's files choose.
    """
    if config.compile_cache == "" or gin_edge.binds(args, "compile_cache"):
        return config.compile_cache or ""
    if gin_edge.binds(args, "CACHE_DIR"):
        return str(Path(config.data.cache_dir) / "xla")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(home) / "flanx" / "xla")


def _required(config: "TrainConfig") -> dict[str, Any]:
    """The macros that every run sets, as a run's own configuration has them."""
    return {
        "MODEL": config.model,
        "MODEL_DIR": config.model_dir,
        "MIXTURE_OR_TASK_NAME": config.data.mixture,
        "TASK_FEATURE_LENGTHS": dict(config.data.feature_lengths),
        "TRAIN_STEPS": config.train_steps,
    }


def _with_dtype(args: argparse.Namespace, model: Any) -> tuple[argparse.Namespace, Any]:
    """MODEL_DTYPE without a file for the model sets the dtype of the checkpoint's own."""
    flags = [text for text in args.gin_binding if text.partition("=")[0].strip() == "MODEL_DTYPE"]
    if not flags:
        return args, model
    kept = [text for text in args.gin_binding if text not in flags]
    dtype = flags[-1].partition("=")[2].strip().strip("'\"")
    return argparse.Namespace(**{**vars(args), "gin_binding": kept}), replace(model, dtype=dtype)
