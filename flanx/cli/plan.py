"""`flanx plan`: whether a run fits on devices that are not here, how fast it can be, and what it costs."""

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from flanx.cli import gin_edge
from flanx.errors import UserError
from flanx.terminal import printable, say

if TYPE_CHECKING:
    from flanx.plan.facts import Facts
    from flanx.plan.search import Tried
    from flanx.plan.topology import Topology
    from flanx.training.config import TrainConfig

HELP = """\
Check a run against a TPU slice or GPU servers before anyone rents them. The real train step is compiled for the
slice, with no TPU present, and the report says what each chip holds and does: memory, FLOPs, bytes over HBM and the
interconnect, the least time a step can take, hours and money. GPUs are estimated from shapes and shardings. No data,
checkpoint or vocabulary need exist. Exit status 3: it does not fit, and which setting would make it fit."""

EXAMPLE = """\
examples:
  flanx plan --gin_file=recipes/flan_t5_xxl.gin --topology=v4:8x8x8
  flanx plan --gin_file=recipes/flan_t5_xl.gin --topology=v5e-256 --search
  flanx plan --gin_file=recipes/flan_t5_xl.gin --topology=h200:8 --price_per_chip_hour=3.5 --json
"""

NO_FIT = 3
SEARCH_COMPILES = 6
SHOWN = 10  # rows of a search's table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    gin_edge.add_arguments(parser)
    parser.add_argument(
        "--topology",
        required=True,
        metavar="CHIP:SHAPE",
        help="v4:8x8x8 in chips, v4-1024 as Google names it, h200:8 for one server of GPUs, h100:8x4 for four",
    )
    parser.add_argument(
        "--slices",
        type=int,
        default=1,
        metavar="N",
        help="slices or servers of this topology, joined by the data centre's network (default: 1)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="by arithmetic alone, in seconds and without libtpu; GPUs are always planned so",
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="try mesh shapes, presets, microbatches and remat policies, and rank those that fit",
    )
    parser.add_argument(
        "--search_compiles",
        type=int,
        metavar="N",
        help=f"how many of the most promising settings a search compiles (default: {SEARCH_COMPILES})",
    )
    parser.add_argument(
        "--price_per_chip_hour", type=float, metavar="MONEY", help="tells what the run costs"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object, or a list in a search"
    )


def run(args: argparse.Namespace) -> int:
    from flanx.plan import topology

    where = topology.parse(args.topology, args.slices)
    price = args.price_per_chip_hour
    if price is not None and not 0 <= price < math.inf:
        raise UserError(f"--price_per_chip_hour {price:g}: give 0 or more")
    estimated = args.estimate or where.chip.platform == "gpu"
    if args.search_compiles is not None:
        if args.search_compiles < 1:
            raise UserError("--search_compiles must be at least 1; for none, add --estimate")
        if estimated or not args.search:
            raise UserError(
                "--search_compiles is for --search on TPUs without --estimate: nothing else compiles several settings"
            )
    if not estimated and not topology.has_compiler():
        raise UserError(
            "compiling for TPUs takes libtpu, which is not installed: pip install 'flanx[plan]', or add --estimate "
            "to plan by arithmetic alone"
        )
    topology.prepare_environment()
    config = _config(args)
    return (
        _search(args, config, where, estimated)
        if args.search
        else _one(args, config, where, estimated)
    )


def _config(args: argparse.Namespace) -> "TrainConfig":
    """The run, with what only a run itself needs left open."""
    from flanx.training import limits
    from flanx.training.config import TrainConfig

    unset = {"MODEL_DIR": ".", "INITIAL_CHECKPOINT_PATH": ".", "MIXTURE_OR_TASK_NAME": "any"}
    config = gin_edge.build(TrainConfig, args, defaults=unset)
    limits.check(config)
    return config


def _one(
    args: argparse.Namespace, config: "TrainConfig", where: "Topology", estimated: bool
) -> int:
    from dataclasses import replace

    from flanx.plan import advice, settings
    from flanx.plan.report import Plan

    config, note = settings.split_over(config, where)
    measure = _measure(estimated)
    facts = measure(config, where)
    if note:
        facts = replace(facts, notes=(note, *facts.notes))
    mend = ""
    if not facts.memory.fits:
        facts = advice.with_largest(config, facts)
        _say("it does not fit; looking for a setting that does")
        mend = advice.mend(config, facts, measure)
    plan = Plan(config, facts, args.price_per_chip_hour, mend)
    print(json.dumps(plan.to_json(), indent=1) if args.json else _shown(plan.lines()))
    return 0 if facts.memory.fits else NO_FIT


def _measure(estimated: bool):
    if estimated:
        from flanx.plan.estimate import estimate

        return estimate

    def compile_step(config: "TrainConfig", where: "Topology") -> "Facts":
        from flanx.plan.compiled import compile_step

        _say(f"compiling for {where.describe()}")
        return compile_step(config, where)

    return compile_step


def _search(
    args: argparse.Namespace, config: "TrainConfig", where: "Topology", estimated: bool
) -> int:
    from flanx.plan import search
    from flanx.plan.report import Plan

    found: list[Tried] = search.search(
        config,
        where,
        compiled=0 if estimated else args.search_compiles or SEARCH_COMPILES,
        say=_say,
    )
    plans: list[Plan] = [Plan(c, f, args.price_per_chip_hour) for c, f in found]
    if args.json:
        print(json.dumps([plan.to_json() for plan in plans], indent=1))
    elif not plans:
        which = "setting" if estimated else "setting that was compiled"
        print(f"no {which} fits on {where.describe()}; take more devices or a smaller batch")
    else:
        print(_shown([*search.shown(found[:SHOWN]), "", *plans[0].lines()]))
    return 0 if plans else NO_FIT


def _shown(lines: Sequence[str]) -> str:
    return printable("\n".join(lines), lines=True)


def _say(text: str) -> None:
    say(f"flanx plan: {text}")
