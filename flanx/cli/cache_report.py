"""`flanx cache --report`: a page about the store, after caching or of a manifest that is there."""

import argparse
import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flanx.cli import gin_edge
from flanx.errors import UserError
from flanx.terminal import printable, say

if TYPE_CHECKING:
    from flanx.data.manifest import Manifest
    from flanx.data.request import StoreRequest
    from flanx.insight.planned import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "report",
        "one HTML page: shares, epochs, lengths, what was dropped or cut, examples, and what to fix",
    )
    group.add_argument(
        "--report",
        nargs="?",
        const="",
        metavar="FILE",
        help="write it here (default: <cache_dir>/reports/<mixture>-<split>-<key>.html)",
    )
    group.add_argument(
        "--manifest",
        metavar="FILE",
        help="report on this manifest (<cache_dir>/manifests/*.json); its sources need not be there",
    )
    group.add_argument(
        "--steps", type=int, metavar="N", help="planned training steps; default: the gin file's"
    )
    group.add_argument(
        "--batch_size", type=int, metavar="N", help="rows of a batch; default: the gin file's"
    )


def write(
    args: argparse.Namespace, manifests: "Sequence[Manifest]", request: "StoreRequest"
) -> None:
    """Reports on what was just cached; the first manifest is the one of `request`."""
    _write(args, manifests, Path(request.manifest_path))


def alone(args: argparse.Namespace) -> bool:
    """Whether only a report is wanted, of a manifest that is there.

    Raises:
      UserError: flags that do not go together.
    """
    flags = {"--manifest": args.manifest, "--steps": args.steps, "--batch_size": args.batch_size}
    given = [name for name, value in flags.items() if value is not None]
    if args.report is None and given:
        raise UserError(f"{given[0]} is for the report: add --report [FILE]")
    if args.manifest and (args.mixture or args.requests):
        raise UserError("--manifest says what to report on: leave out --mixture and --requests")
    of = args.manifest or args.mixture or args.gin_file or args.requests
    if args.report is not None and not of:
        raise UserError("--report of what? Add --gin_file=FILE, --mixture NAME, or --manifest FILE")
    return args.manifest is not None


def of_manifest(args: argparse.Namespace) -> int:
    """Reports on a manifest file, whatever has become of its sources."""
    found, _ = load(args.manifest)
    _write(args, [found], Path(args.manifest).expanduser())
    return 0


def load(file: str) -> "tuple[Manifest, Path]":
    """The manifest that `--manifest` names, and the cache folder that it lies in."""
    from flanx.data import manifest

    path = Path(file).expanduser().absolute()
    try:
        return manifest.load(path), path.parent.parent
    except FileNotFoundError:
        raise UserError(f"--manifest {file}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"--manifest {file}: {error}") from None


def _write(args: argparse.Namespace, manifests: "Sequence[Manifest]", path: Path) -> None:
    from flanx.insight.report import default_path, write

    cache_dir = path.absolute().parent.parent
    target = Path(args.report).expanduser() if args.report else default_path(cache_dir, path.stem)
    made = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    for title in write(target, manifests, cache_dir, _plan(args), made=made):
        say(f"  {printable(title)}")
    say(f"report: {printable(target)}")


def _plan(args: argparse.Namespace) -> "Plan":
    """Steps and rows from the gin file, where there is one; flags come first."""
    from flanx.insight.planned import Plan

    if not args.gin_file:
        return Plan(args.steps, args.batch_size)
    from flanx.training.config import TrainConfig

    config = gin_edge.build(TrainConfig, args, defaults={"MODEL_DIR": "."})
    return Plan(
        config.train_steps if args.steps is None else args.steps,
        config.batch_size if args.batch_size is None else args.batch_size,
        config.data.packing,
        config.data.block_size,
        config.seed,
    )
