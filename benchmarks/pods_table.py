"""The table of docs/pods.md: Flan-T5 small to XXL on five TPU slices, each step compiled by XLA.

    python benchmarks/pods_table.py                                     # all 25 cells, into docs/pods.md
    python benchmarks/pods_table.py --size xxl --slice v4-512 --print   # one cell, to standard output

Needs libtpu (pip install 'flanx[plan]'); takes a minute or two a cell on two cores. The recipes are as published (batch
64, rows of 2048 + 512 tokens), their layers scanned. Mesh, preset, microbatches and remat policy of a cell are those
that arithmetic ranks first among the ones that leave memory to spare; what the table says of them is the compiler's
word. Progress and one JSON object a cell go to standard error.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from flanx.cli import gin_edge
from flanx.errors import UserError
from flanx.plan import report, roofline, search, topology
from flanx.plan.estimate import estimate
from flanx.plan.report import Plan

SIZES = ("small", "base", "large", "xl", "xxl")
SLICES = ("v5e-16", "v5p-64", "v4-512", "v5p-512", "v6e-256")
PAGE = Path(__file__).parents[1] / "docs" / "pods.md"
BEGIN, END = "<!-- table: benchmarks/pods_table.py -->", "<!-- end of table -->"
HEAD = (
    "| Flan-T5 | slice | chips | data x model | parameters | microbatches | remat | GiB a chip | of | least step | "
    "limit | MFU | if nothing overlaps | hours for the recipe's steps |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
)
INTRODUCTION = (
    "## Flan-T5 on five slices\n\n"
    "The published recipes (batch 64, rows of 2048 + 512 tokens; `recipes/flan_t5_*.gin`), each step compiled, with "
    "the mesh, preset,\nmicrobatches and remat policy that a search by arithmetic ranks first among those with "
    "memory to spare. `python benchmarks/pods_table.py`\nwrites this table."
)
# Arithmetic must promise this many times less than there is; and so many settings are compiled at most.
SPARE = 1.3
TRIES = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, action="append", help="repeatable; default: all")
    parser.add_argument("--slice", choices=SLICES, action="append", help="repeatable; default: all")
    parser.add_argument(
        "--print", action="store_true", help="print the table, and leave docs/pods.md"
    )
    args = parser.parse_args()
    topology.prepare_environment()
    rows = list(HEAD)
    for size in args.size or SIZES:
        config = recipe(size)
        for name in args.slice or SLICES:
            rows.append(cell(size, name, config))
    if args.print:
        print("\n".join(rows))
        return
    page = PAGE.read_text()
    if BEGIN not in page:
        page = f"{page}\n{INTRODUCTION}\n\n{BEGIN}\n{END}\n"
    before, rest = page.split(BEGIN)
    table = "\n".join(rows)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}")


def recipe(size: str) -> Any:
    """The published fine-tuning of one size."""
    from flanx.training.config import TrainConfig

    parser = argparse.ArgumentParser()
    gin_edge.add_arguments(parser)
    flags = [f"--gin_file=recipes/flan_t5_{size}.gin", "--gin_binding=T5Config.scan_layers=True"]
    unset = {"MODEL_DIR": ".", "INITIAL_CHECKPOINT_PATH": None}
    return gin_edge.build(TrainConfig, parser.parse_args(flags), defaults=unset)


def cell(size: str, name: str, config: Any) -> str:
    """One row of the table."""
    where = topology.parse(name)
    try:
        ranked = search.search(config, where, compiled=0, say=lambda text: None)
    except UserError as error:
        return f"| {size} | {name} | {where.devices} | {error} |" + " |" * 10
    roomy = [one for one, guess in ranked if guess.memory.total * SPARE <= guess.memory.usable]
    for one in (roomy or [c for c, _ in ranked])[:TRIES]:
        plan = Plan(one, search.compile_apart(one, where))
        guess = estimate(one, where)
        figures = plan.to_json() | {"estimated_total": guess.memory.total, "size": size}
        print(json.dumps(figures), file=sys.stderr, flush=True)
        if plan.facts.memory.fits:
            return row(size, name, plan)
    return f"| {size} | {name} | {where.devices} | does not fit |" + " |" * 10


def row(size: str, name: str, plan: Plan) -> str:
    """The figures of a plan side by side."""
    facts, times = plan.facts, plan.roofline
    words = settings_of(plan)
    values = (
        size,
        name,
        facts.topology.devices,
        f"{facts.mesh['data']} x {facts.mesh['model']}",
        words["mesh_parameters"],
        words["microbatches"],
        words["remat"],
        report.gib(facts.memory.total),
        report.gib(facts.memory.usable),
        report.ms(times.bound),
        times.limit,
        f"{roofline.mfu(facts, times.bound):.0%}",
        f"{roofline.mfu(facts, times.serial):.0%}",
        f"{roofline.hours(plan.config.train_steps, times.bound):.2f}",
    )
    return "| " + " | ".join(str(v) for v in values) + " |"


def settings_of(plan: Plan) -> dict[str, Any]:
    """Settings of a plan as plain values."""
    return report.settings(plan.config, plan.facts)


if __name__ == "__main__":
    main()
