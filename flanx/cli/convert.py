"""`flanx convert`: a checkpoint from one form to another."""

import argparse

from flanx import resources
from flanx.cli import gin_edge
from flanx.terminal import printable, say

HELP = """\
Convert a checkpoint between flanx, T5X (a T5) and Hugging Face. What SRC is, is found out; arrays stream
one by one, so a model larger than memory can be converted; DST appears whole or not at all."""

EXAMPLE = """\
examples:
  flanx convert flan-t5-small flan-t5-small-flanx --to flanx
  flanx convert t5_1_1_small_lm100k/checkpoint_1100000 start --to flanx --vocabulary=spiece.model
  flanx convert runs/my_model my_model_hf --to hf --dtype=bfloat16
  flanx convert runs/my_model/checkpoints/2000 my_model_t5x --to t5x --scanned --dry_run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SRC",
        help="a flanx MODEL_DIR, checkpoint or export; a T5X checkpoint_<step> (native or Orbax; gs:// too) or the "
        "folder of several; or a Hugging Face folder",
    )
    parser.add_argument("destination", metavar="DST", help="folder to write, new or empty")
    parser.add_argument(
        "--to", required=True, metavar="FORM", help="flanx, t5x (native), t5x-orbax or hf"
    )
    parser.add_argument(
        "--dtype",
        default="keep",
        help="of the parameters: keep (default), float32 or bfloat16; optimizer state keeps its own",
    )
    parser.add_argument(
        "--scanned",
        action="store_true",
        help="stack layers as the form's scanned network has them (not hf)",
    )
    parser.add_argument(
        "--compress",
        action="store_true",
        help="gzip the arrays as T5X itself does (t5x): a little smaller, many times slower",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="SPEC",
        help="SentencePiece model, where SRC has none: it is copied along, with the tokenizer's files (flanx, hf)",
    )
    parser.add_argument(
        "--inputs_length", type=int, metavar="N", help="most input tokens to expect (flanx; 512)"
    )
    parser.add_argument(
        "--targets_length", type=int, metavar="N", help="most target tokens to expect (flanx; 512)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a converted checkpoint at DST"
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="print every array and what it becomes, write nothing",
    )
    gin_edge.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from rich.filesize import decimal

    from flanx.errors import UserError
    from flanx.interop import convert
    from flanx.interop.request import Request, prepare

    if args.vocabulary is not None and args.to.startswith("t5x"):
        raise UserError("--vocabulary: T5X's checkpoints have no place for one; leave it out")
    if "://" in args.destination.removeprefix(resources.FILE_SCHEME):
        raise UserError(
            f"DST '{args.destination}' is not on this machine: write a local folder and copy it there"
        )
    destination = resources.absolute(args.destination)
    prepared = prepare(
        Request(
            source=args.source,
            destination=destination,
            form=args.to,
            dtype=args.dtype,
            scanned=args.scanned,
            compress=args.compress,
            vocabulary=args.vocabulary,
            config=_config(args),
            feature_lengths=_lengths(args),
        )
    )
    convert.check_destination(destination, overwrite=args.overwrite)
    for note in prepared.notes:
        say(f"flanx convert: {note}")
    if args.dry_run:
        print(printable(_table(prepared), lines=True))
        return 0
    with convert.opened(destination, overwrite=args.overwrite) as temporary:
        target = prepared.target(temporary)
        total = sum(planned.info.nbytes for planned in target.arrays)
        with _progress(total) as advance:
            convert.convert(
                prepared.source,
                target,
                temporary,
                destination,
                overwrite=args.overwrite,
                advance=advance,
            )
    count = len(target.arrays)
    print(
        f"{printable(destination)}: {count} arrays, {decimal(total)}, {prepared.config.num_parameters():,} parameters"
    )
    return 0


def _config(args: argparse.Namespace):
    if not args.gin_file and not args.gin_binding:
        return None
    return gin_edge.build_model(args)


def _lengths(args: argparse.Namespace) -> dict[str, int] | None:
    from flanx.errors import UserError

    given = {"inputs": args.inputs_length, "targets": args.targets_length}
    if all(length is None for length in given.values()):
        return None
    if args.to != "flanx":
        raise UserError("--inputs_length and --targets_length are for --to flanx")
    lengths = {name: 512 if length is None else length for name, length in given.items()}
    for name, length in lengths.items():
        if length < 1:
            raise UserError(f"--{name}_length={length}: give at least 1")
    return lengths


def _table(prepared) -> str:
    """Every array as it is and as it would be."""
    source = prepared.source
    rows = [("source", "shape", "dtype", "written as", "shape", "dtype")]
    target = prepared.target(prepared.request.destination)
    infos = {**source.params, **source.optimizer}
    for planned in target.arrays:
        first, more = planned.sources[0], len(set(planned.sources)) - 1
        info = infos[first]
        rows.append(
            (
                first + (f" (and {more} more)" if more else ""),
                str(info.shape),
                info.dtype.name,
                planned.name,
                str(planned.info.shape),
                planned.info.dtype.name,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    total = sum(planned.info.nbytes for planned in target.arrays)
    lines.append(
        f"{source.path} ({source.form}) -> {prepared.request.destination} ({prepared.request.form}): "
        f"{len(target.arrays)} arrays, {total:,} bytes; nothing was written"
    )
    return "\n".join(lines)


def _progress(total: int):
    from flanx.interop.progress import progress

    return progress(total)
