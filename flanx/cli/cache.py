"""`flanx cache`: render and tokenise a mixture into the token store, ahead of training."""

import argparse
import json
import sys
from pathlib import Path

from flanx.cli import gin_edge
from flanx.errors import UserError

HELP = """\
Render, tokenise and store every example of a mixture, once. `flanx train` does this by itself when
the store is missing or stale; run it ahead to prepare data on another machine, or to look at it.
An interrupted run goes on where it was; what has not changed is not done again."""

EXAMPLE = """\
examples:
  flanx cache --gin_file=quickstart.gin
  flanx cache --gin_file=recipes/natural_instructions.gin --gin.DATA_DIR=natural-instructions \\
      --gin.VOCABULARY=spiece.model --workers 8
  flanx cache --mixture 'playground.*.zs_opt' --feature_lengths inputs=64,targets=24 \\
      --cache_dir /tmp/store
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    gin_edge.add_arguments(parser)
    parser.add_argument("--mixture", help="mixture, task or glob, in place of a gin file")
    parser.add_argument("--split", default="train", help="its split (default: train)")
    parser.add_argument(
        "--feature_lengths",
        default="inputs=512,targets=128",
        metavar="inputs=N,targets=M",
        help="most tokens of a row (default: inputs=512,targets=128)",
    )
    parser.add_argument("--vocabulary", help="SentencePiece model; default: the tasks' own")
    parser.add_argument("--cache_dir", default="~/.cache/flanx", help="default: ~/.cache/flanx")
    parser.add_argument("--data_dir", help="folder of data files; default: $FLANX_DATA_DIR")
    parser.add_argument(
        "--requests", metavar="FILE", help="JSON list of requests, as flanx train writes it"
    )
    parser.add_argument(
        "--workers", type=int, help="processes; 0 for this one alone; default: one a core"
    )
    parser.add_argument("--force", action="store_true", help="make every store again")
    parser.add_argument(
        "--verify", action="store_true", help="compare every store with its checksum"
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="print what would be cached, and stop"
    )


def run(args: argparse.Namespace) -> int:
    requests = _requests(args)
    if args.dry_run:
        for request in requests:
            print(json.dumps(request.to_json(), indent=1))
        return 0
    from flanx.prep.cache import cache

    try:
        manifests = cache(requests, workers=args.workers, verify=args.verify, force=args.force)
    except KeyboardInterrupt:
        print(
            "flanx cache: interrupted; what is finished is kept, run again to go on",
            file=sys.stderr,
        )
        return 130
    for manifest in manifests:
        examples = sum(entry.examples for entry in manifest.entries)
        print(
            f"{manifest.mixture} {manifest.split}: {examples:,} examples of "
            f"{len(manifest.entries):,} tasks",
            file=sys.stderr,
        )
    return 0


def _requests(args: argparse.Namespace) -> list:
    from flanx.data.request import StoreRequest

    ways = [bool(args.requests), bool(args.mixture), bool(args.gin_file)]
    if sum(ways) != 1:
        raise UserError(
            "say what to cache in one way: --gin_file=FILE, --mixture NAME, or --requests FILE"
        )
    if args.requests:
        return [StoreRequest.from_json(item) for item in _listed(args.requests)]
    if args.mixture:
        return [
            StoreRequest(
                mixture=args.mixture,
                split=args.split,
                feature_lengths=_lengths(args.feature_lengths),
                vocabulary=args.vocabulary,
                cache_dir=str(Path(args.cache_dir).expanduser()),
                data_dir=args.data_dir,
                imports=tuple(args.imports),
            )
        ]
    from flanx.training.config import TrainConfig

    config = gin_edge.build(TrainConfig, args, defaults={"MODEL_DIR": "."})
    return [config.data.request(), *map(config.data.eval_request, config.evals)]


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
