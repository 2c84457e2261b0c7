"""`flanx cache --prune` and `--verify` of a folder as it is: neither needs the sources, nor a mixture."""

import argparse
from pathlib import Path

from flanx.errors import UserError
from flanx.terminal import printable, say

DEFAULT = "~/.cache/flanx"
_SHOWN = 20  # damaged stores that are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove the stores of --cache_dir that no manifest refers to any longer, those of earlier code or data; "
        "with --dry_run list them",
    )


def wanted(args: argparse.Namespace) -> bool:
    """Whether the command is about a folder as it is."""
    return args.prune or (args.verify and not (args.mixture or args.gin_file or args.requests))


def run(args: argparse.Namespace) -> int:
    """Removes what nothing needs, or looks at every store."""
    if args.prune and (args.verify or args.force or args.mixture or args.gin_file or args.requests):
        raise UserError("--prune goes with --cache_dir and --dry_run alone")
    if args.force:
        raise UserError(
            "--force makes the stores of a mixture again: name it by --mixture or --gin_file"
        )
    folder = Path(args.cache_dir or DEFAULT).expanduser()
    return _prune(folder, args.dry_run) if args.prune else _verify(folder, args.workers)


def _prune(folder: Path, dry_run: bool) -> int:
    from flanx.prep import prune

    found = prune.leftovers(folder) if dry_run else prune.prune(folder)
    for one in found:
        print(f"{one.size:>15,}  {printable(one.path)}")
    size = sum(one.size for one in found)
    verb = "would be removed" if dry_run else "removed"
    say(f"{printable(folder)}: {len(found):,} folders, {size:,} bytes {verb}")
    return 0


def _verify(folder: Path, workers: int | None) -> int:
    from flanx.prep import verify

    found = verify.verify_folder(folder, workers=workers)
    if found.damaged:
        lines = [f"  {printable(line)}" for line in found.damaged[:_SHOWN]]
        if len(found.damaged) > _SHOWN:
            lines.append(f"  and {len(found.damaged) - _SHOWN:,} more")
        head = (
            f"flanx cache: {len(found.damaged):,} damaged in {printable(folder)}, {found.whole:,} stores whole; "
            "flanx cache --verify with the mixture, where its sources are, makes the damaged ones again:"
        )
        say("\n".join([head, *lines]))
        raise UserError("")  # said, on several lines
    say(f"{printable(folder)}: {found.whole:,} stores, {found.size:,} bytes, all whole")
    return 0
