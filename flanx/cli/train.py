"""`flanx train`: one gin file, one trained model."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from flanx.cli import gin_edge
from flanx.terminal import say
from flanx.unfailing_output import unfailing

if TYPE_CHECKING:
    from flanx.training.config import TrainConfig
    from flanx.training.hosts import Hosts
    from flanx.training.loop import Result

HELP = """\
Train a model on a mixture of tasks, evaluate it on held-in and held-out ones, and leave
checkpoints, metrics and predictions in MODEL_DIR. A run that was stopped goes on where it was."""

EXAMPLE = """\
examples:
  flanx train --gin_file=quickstart.gin
  flanx train --gin_file=recipes/natural_instructions.gin --gin.MODEL_DIR=runs/ni \\
      --gin.DATA_DIR=natural-instructions --gin.VOCABULARY=spiece.model --gin.TRAIN_STEPS=200
  flanx train --gin_file=quickstart.gin --coordinator_address=10.0.0.2:8476 --process_count=2 --process_index=0
"""

PREEMPTED = 75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    gin_edge.add_arguments(parser)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="check the settings, print the configuration and the model's size, and stop",
    )
    group = parser.add_argument_group(
        "several hosts",
        "one process a host, each with the same command; on a TPU slice, under SLURM and Open MPI nothing need be said",
    )
    group.add_argument("--coordinator_address", metavar="HOST:PORT", help="where process 0 runs")
    group.add_argument("--process_count", type=int, metavar="N", help="number of processes")
    group.add_argument("--process_index", type=int, metavar="I", help="this one's, from 0")
    group.add_argument(
        "--join_timeout",
        type=float,
        metavar="SECONDS",
        help="how long processes wait for each other at the start (default: 300)",
    )


def run(args: argparse.Namespace) -> int:
    from flanx.training.config import TrainConfig

    config = gin_edge.build(TrainConfig, args)
    text = gin_edge.operative_config()
    from flanx.training.hosts import Hosts

    if args.dry_run:
        _check(config, Hosts(args.coordinator_address, args.process_count, args.process_index))
        return _describe(config, text)
    from flanx.training.loop import train

    hosts = Hosts(
        args.coordinator_address, args.process_count, args.process_index, args.join_timeout
    )
    with unfailing():
        try:
            result = train(config, config_text=text, hosts=hosts)
        except KeyboardInterrupt:
            _leave_at_once()
        if result.preempted:
            print(f"flanx train: {_stopped(result)}", file=sys.stderr)
            return PREEMPTED
    return 0


def _stopped(result: "Result") -> str:
    at = f"stopped at step {result.step}"
    if result.saved == result.step:
        return f"{at}, checkpoint saved; run the same command to go on"
    where = f"the checkpoint of step {result.saved}" if result.saved else "the beginning"
    return f"{at} while updates were being skipped; run the same command to go on from {where}"


def _leave_at_once() -> NoReturn:
    """A second Ctrl-C: no thread is waited for, and no save. What was saved before is whole."""
    print("\nflanx train: interrupted; the same command goes on", file=sys.stderr, flush=True)
    os._exit(PREEMPTED)


def _check(config: "TrainConfig", hosts: "Hosts") -> None:
    """What the start would refuse before the first step, with nothing written and no row read."""
    from flanx.training import startup

    startup.prepare("")
    from flanx.data import vocabulary
    from flanx.prep import prepared
    from flanx.prep.preview import preview
    from flanx.training import run as runs
    from flanx.training import run_info
    from flanx.training.hosts import find_place

    alone = find_place(hosts, os.environ, lambda: False) is None
    if not alone:
        say(
            "flanx train: of several processes, the devices and what depends on them are not checked"
        )
    config = runs.check_settings(config, joined=alone).config
    source = runs.check_folder(config)
    training, *others = runs.requests_of(config)
    for request in (training, *others):
        ready = prepared.ready(request)
        if ready is None:
            (planned,) = preview([request], workers=config.data.cache_workers)
            words = vocabulary.load(planned.vocabulary, request.data_dir)
        else:
            words = vocabulary.load(ready.vocabulary["spec"], request.data_dir)
        runs.check_tokens(config, words, source)
        if ready is not None and request is training:
            run_info.check_data(config, run_info.facts(config, ready, words))


def _describe(config, text: str) -> int:
    flops = config.model.flops_per_step(config.batch_size, config.cells)
    print(text)
    print(f"# parameters: {config.model.num_parameters():,}")
    print(f"# FLOPs a step: {flops:.4g}")
    print(f"# steps: {config.train_steps:,}; rows a batch: {config.batch_size:,}")
    return 0
