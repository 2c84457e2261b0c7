"""`flanx cache`: render and tokenise a mixture into the token store, ahead of training."""

import argparse
import json
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx.cli import cache_folder, cache_report, gin_edge
from flanx.cli.table import Table
from flanx.errors import UserError
from flanx.terminal import plural, printable, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flanx.data.manifest import Manifest
    from flanx.data.request import StoreRequest

HELP = """\
Render, tokenise and store every example of a mixture, once. `flanx train` does this by itself when
the store is missing or stale; run it ahead to prepare data on another machine, or to look at it.
An interrupted run resumes where it was; what has not changed is not done again. --verify and --prune
without a mixture look after the folder of --cache_dir as it is."""

EXAMPLE = """\
examples:
  flanx cache --gin_file=quickstart.gin
  flanx cache --gin_file=recipes/natural_instructions.gin --gin.DATA_DIR=natural-instructions \\
      --gin.VOCABULARY=spiece.model --workers 8
  flanx cache --mixture 'playground.*.zs_opt' --feature_lengths inputs=64,targets=24 \\
      --cache_dir /tmp/store
  flanx cache --gin_file=recipes/natural_instructions.gin --gin.CACHE_DIR=/nfs/flanx --runner=FlinkRunner \\
      --beam_options='--flink_master=host:8081 --parallelism=64'
  flanx cache --verify --cache_dir /nfs/flanx
  flanx cache --prune --dry_run --cache_dir /nfs/flanx
  flanx cache --mixture cot --data_dir data --vocabulary spiece.model \\
      --filter 'NearDuplicates(threshold=0.7)' --filter 'Language(keep="en")'
  flanx cache --gin_file=quickstart.gin --report report.html
"""

# Flags that a gin file says by a macro, or by DataConfig's field.
_SAID_BY_GIN = {
    "split": "DataConfig.split",
    "feature_lengths": "TASK_FEATURE_LENGTHS",
    "vocabulary": "VOCABULARY",
    "cache_dir": "CACHE_DIR",
    "data_dir": "DATA_DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    gin_edge.add_arguments(parser)
    parser.add_argument("--mixture", help="mixture, task or glob, in place of a gin file")
    parser.add_argument("--split", help="its split (default: train)")
    parser.add_argument(
        "--feature_lengths",
        metavar="inputs=N,targets=M",
        help="most tokens of a row (default: inputs=512,targets=128)",
    )
    parser.add_argument(
        "--vocabulary",
        help="SentencePiece model or Hugging Face folder; default: the tasks' own",
    )
    parser.add_argument("--cache_dir", help=f"default: {cache_folder.DEFAULT}")
    parser.add_argument("--data_dir", help="folder of data files; default: $FLANX_DATA_DIR")
    parser.add_argument(
        "--filter",
        action="append",
        default=[],
        dest="filters",
        metavar="FILTER",
        help="with --mixture: leave rows out, 'NearDuplicates(threshold=0.8)' say; repeatable: "
        "ExactDuplicates, NearDuplicates, Decontaminate, Length, Language, Function (docs/filters.md)",
    )
    parser.add_argument(
        "--requests", metavar="FILE", help="JSON list of requests, as flanx train writes it"
    )
    parser.add_argument(
        "--workers", type=int, help="processes; 0 for this one alone; default: one a core"
    )
    parser.add_argument("--force", action="store_true", help="make every store again")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare every store with its checksum and make damaged ones again; without a mixture, look at all that "
        "--cache_dir holds, no source needed",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="check everything that a real start checks, list the tasks with their sizes, and stop",
    )
    cache_folder.add_arguments(parser)
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="run the work on Apache Beam in place of --workers processes: DirectRunner, DataflowRunner, FlinkRunner "
        "...; --cache_dir and --data_dir must be folders that all its workers share",
    )
    parser.add_argument(
        "--beam_options", metavar="'--NAME=VALUE ...'", help="the runner's own options"
    )
    cache_report.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if cache_report.alone(args):
        return cache_report.of_manifest(args)
    if cache_folder.wanted(args):
        return cache_folder.run(args)
    requests = _requests(args)
    runner = _runner(args)
    if args.dry_run:
        return _preview(requests, args.workers)
    from flanx.prep import server

    if args.workers != 0 and args.runner is None and server.core_count() > 1:
        server.start()
    from flanx.prep.cache import cache

    settings = {"workers": args.workers, "verify": args.verify, "force": args.force}
    manifests = cache(requests, **settings, **runner)
    for manifest in manifests:
        say("\n".join(map(printable, _summary(manifest))))
    if args.report is not None:
        cache_report.write(args, manifests, requests[0])
    return 0


def _preview(requests: "Sequence[StoreRequest]", workers: int | None) -> int:
    """Each request, its tasks with the sizes of their data and stores, and their sums."""
    from rich.filesize import decimal

    from flanx.prep.preview import preview

    for one in preview(requests, workers=workers):
        print(json.dumps(one.request.to_json(), indent=1))
        for note in one.notes:
            say(f"flanx cache: {note}")
        table = Table("task", "data", "store")
        for task in one.tasks:
            data = decimal(sum(task.files.values())) if task.files else "-"
            there = f"{task.examples or 0:,} examples, {decimal(task.store_bytes)}"
            table.add(task.task, data, "to be made" if task.examples is None else there)
        table.print()
        unread = {file: size for task in one.missing for file, size in task.files.items()}
        print(
            f"{printable(one.request.mixture)} {one.request.split}: {plural(len(one.tasks), 'task')}, "
            f"{len(one.missing):,} to be made, of {decimal(sum(unread.values()))} of data"
        )
    return 0


def _summary(manifest: "Manifest") -> list[str]:
    """What a manifest holds, which rows make no example, and what its filters have left out, if nothing too."""
    from flanx.data import filters

    examples = sum(entry.examples for entry in manifest.entries)
    tasks = len(manifest.entries)
    types = manifest.request.get("template_types")
    only = f" ({', '.join(types)})" if types else ""
    lines = [
        f"{manifest.mixture} {manifest.split}{only}: {examples:,} examples of {tasks:,} "
        f"task{'' if tasks == 1 else 's'}"
    ]
    counted: Counter[str] = Counter()
    for counts in [*(entry.dropped for entry in manifest.entries), *manifest.left_out.values()]:
        counted.update(counts)
    rows = {why: n for why, n in counted.items() if not why.startswith(filters.PREFIX)}
    if rows:
        lines.append(f"  dropped: {', '.join(f'{why} {n:,}' for why, n in sorted(rows.items()))}")
    asked = filters.read(manifest.request.get("filters", ()))
    if asked:
        dropped = Counter({filters.label(one): 0 for one in asked})
        dropped.update({why: n for why, n in counted.items() if why.startswith(filters.PREFIX)})
        words = ", ".join(f"{why.removeprefix(filters.PREFIX)} {n:,}" for why, n in dropped.items())
        lines.append(f"  left out by filters: {words}")
    return lines


def _runner(args: argparse.Namespace) -> dict[str, Any]:
    if args.runner is None:
        if args.beam_options is not None:
            raise UserError("--beam_options are those of a Beam runner: name it with --runner")
        return {}
    from flanx.prep import beam_runner

    return {"run": beam_runner.on(args.runner, shlex.split(args.beam_options or ""))}


def _requests(args: argparse.Namespace) -> list:
    from flanx.data.request import StoreRequest

    ways = [bool(args.requests), bool(args.mixture), bool(args.gin_file)]
    if sum(ways) != 1:
        raise UserError(
            "say what to cache in one way: --gin_file=FILE, --mixture NAME, or --requests FILE"
        )
    if args.filters and not args.mixture:
        raise UserError(
            "--filter goes with --mixture; with a gin file, set --gin.FILTERS='(\"ExactDuplicates()\",)', say"
        )
    if not args.mixture:
        _refuse_flags(args)
    if args.requests:
        return [StoreRequest.from_json(item) for item in _listed(args.requests)]
    if args.mixture:
        return [
            StoreRequest(
                mixture=args.mixture,
                split=args.split or "train",
                feature_lengths=_lengths(args.feature_lengths or "inputs=512,targets=128"),
                vocabulary=args.vocabulary,
                cache_dir=os.path.expanduser(args.cache_dir or cache_folder.DEFAULT),
                data_dir=args.data_dir,
                imports=tuple(args.imports),
                filters=tuple(args.filters),
            )
        ]
    from flanx.training.config import TrainConfig

    config = gin_edge.build(TrainConfig, args, defaults={"MODEL_DIR": "."})
    return [config.data.request(), *map(config.data.eval_request, config.evals)]


def _refuse_flags(args: argparse.Namespace) -> None:
    """A gin file and a file of requests say all that these flags say."""
    for flag, name in _SAID_BY_GIN.items():
        if getattr(args, flag) is not None:
            with_gin = f"; with a gin file write --gin.{name}=VALUE" if args.gin_file else ""
            raise UserError(f"--{flag} goes with --mixture{with_gin}")


def _listed(file: str) -> list:
    try:
        listed = json.loads(Path(file).read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"--requests {file}: not a readable JSON file ({error})") from None
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise UserError(f"--requests {file}: not a JSON list of requests, which are objects")
    return listed


def _lengths(text: str) -> dict[str, int]:
    try:
        return {name.strip(): int(n) for name, n in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise UserError(
            f"--feature_lengths={text}: write name=length pairs, for instance inputs=512,targets=128"
        ) from None
