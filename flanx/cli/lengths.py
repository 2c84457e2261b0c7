"""`flanx lengths`: TASK_FEATURE_LENGTHS that waste the fewest FLOPs."""

import argparse
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from flanx.cli import cache_report, gin_edge
from flanx.errors import UserError
from flanx.terminal import printable, say

if TYPE_CHECKING:
    from flanx.data.manifest import Manifest
    from flanx.data.request import StoreRequest
    from flanx.models.config import ModelConfig
    from flanx.training.config import TrainConfig

HELP = """\
Recommend TASK_FEATURE_LENGTHS for a mixture: the row lengths at which the least of the training step
is spent on padding, with at most a given share of the examples cut. A sample of the real stream is
packed into rows of each promising pair of lengths. The mixture is first cached at generous lengths
(--measure), so that what is long is seen; a store that has cut nothing is taken as it is."""

EXAMPLE = """\
examples:
  flanx lengths playground
  flanx lengths 'niv2.*.zs_opt' --data_dir natural-instructions --vocabulary spiece.model \\
      --clip_rate 0.005 --plot lengths.png
  flanx lengths --gin_file=recipes/natural_instructions.gin --gin.DATA_DIR=natural-instructions \\
      --gin.VOCABULARY=spiece.model --model models/t5_1_1/xl.gin --json
"""

SMALL = "models/t5_1_1/small.gin"
# Flags that a gin file says by a macro, or by DataConfig's field.
_SAID_BY_GIN = {
    "split": "DataConfig.split",
    "vocabulary": "VOCABULARY",
    "cache_dir": "CACHE_DIR",
    "data_dir": "DATA_DIR",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mixture",
        nargs="?",
        metavar="MIXTURE",
        help="mixture, task or glob, in place of a gin file",
    )
    gin_edge.add_arguments(parser)
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        help="measure this store (<cache_dir>/manifests/*.json) as it is; its sources need not be there",
    )
    parser.add_argument("--split", help="its split (default: train)")
    parser.add_argument(
        "--vocabulary",
        help="SentencePiece model or Hugging Face folder; default: the tasks' own",
    )
    parser.add_argument("--cache_dir", help="default: ~/.cache/flanx")
    parser.add_argument("--data_dir", help="folder of data files; default: $FLANX_DATA_DIR")
    parser.add_argument(
        "--clip_rate",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="most of the examples that may have their inputs cut, and most their targets (default: 0.01)",
    )
    parser.add_argument(
        "--pack",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="several examples a row (default: as the gin file says, else yes)",
    )
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="gin file of the network whose FLOPs count; default: the gin file's, else T5.1.1 small",
    )
    parser.add_argument(
        "--multiple", type=int, default=64, help="lengths are multiples of it (default: 64)"
    )
    parser.add_argument(
        "--measure",
        default="inputs=4096,targets=1024",
        metavar="inputs=N,targets=M",
        help="cache at these lengths to measure, and consider rows up to them "
        "(default: inputs=4096,targets=1024)",
    )
    parser.add_argument("--top", type=int, default=6, metavar="N", help="best N shown (default: 6)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--plot", metavar="FILE", help="draw the lengths to this PNG")
    parser.add_argument("--workers", type=int, help="processes that cache; default: one a core")


def run(args: argparse.Namespace) -> int:
    _check(args)
    measure = _lengths(args.measure)
    config = _train_config(args, measure)
    network = _network(args, config)
    manifest, cache_dir = _find(args, config, measure)
    from flanx.cli import length_tables
    from flanx.insight import sample, survey
    from flanx.insight.lengths import Material, advise, compared

    block_size = config.data.block_size if config else sample.BLOCK_SIZE
    seed = config.seed if config else 0
    material = Material(
        sample.sample(manifest, cache_dir, block_size=block_size, seed=seed),
        *survey.lengths(manifest, cache_dir),
        network,
        args.pack if args.pack is not None else config is None or config.data.packing,
    )
    own = dict(config.data.feature_lengths) if config else measure
    present = (own["inputs"], own["targets"]) if own != measure else None
    with length_tables.counting() as advance:
        advice = advise(
            material,
            clip_rate=args.clip_rate,
            multiple=args.multiple,
            top=args.top,
            longest=(measure["inputs"], measure["targets"]),
            also=[present] if present else [],
            advance=advance,
        )
    others = compared(material, present)
    if args.plot:
        from flanx.insight import length_plot

        title = f"{manifest.mixture} {manifest.split}, as training meets it"
        length_plot.draw(args.plot, title, material.inputs, material.targets, advice.best[0])
        say(f"plot: {printable(args.plot)}")
    batch_size = config.batch_size if config and present else None
    found = length_tables.Found(manifest, material, advice, others, args.clip_rate, batch_size)
    if args.json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        length_tables.show(found)
    return 0


def _check(args: argparse.Namespace) -> None:
    if [bool(args.mixture), bool(args.gin_file), bool(args.manifest)].count(True) != 1:
        raise UserError(
            "say what to measure in one way: MIXTURE, --gin_file=FILE, or --manifest=FILE"
        )
    for flag, name in _SAID_BY_GIN.items():
        if args.manifest and getattr(args, flag) is not None:
            raise UserError(f"--{flag} goes with MIXTURE; a manifest says it already")
        if args.gin_file and getattr(args, flag) is not None:
            raise UserError(f"--{flag} goes with MIXTURE; with a gin file write --gin.{name}=VALUE")
    if args.gin_binding and not args.gin_file:
        raise UserError(f"--gin.{args.gin_binding[0]} goes with --gin_file")
    if not 0 <= args.clip_rate < 1:
        raise UserError(f"--clip_rate {args.clip_rate:g}: give a share from 0 to below 1")
    if args.multiple < 1 or args.top < 1:
        raise UserError("--multiple and --top must be at least 1")


def _lengths(text: str) -> dict[str, int]:
    try:
        found = {name: int(n) for name, n in (part.split("=") for part in text.split(","))}
    except ValueError:
        found = {}
    if set(found) != {"inputs", "targets"} or min(found.values()) < 2:
        raise UserError(f"--measure {text}: write inputs=4096,targets=1024, each at least 2")
    return found


def _train_config(args: argparse.Namespace, measure: dict[str, int]) -> "TrainConfig | None":
    """The gin file's configuration; lengths and steps need not be set yet."""
    if not args.gin_file:
        return None
    from flanx.training.config import TrainConfig

    unset = {"MODEL_DIR": ".", "TRAIN_STEPS": 1, "TASK_FEATURE_LENGTHS": measure}
    return gin_edge.build(TrainConfig, args, defaults=unset)


def _find(
    args: argparse.Namespace, config: "TrainConfig | None", measure: dict[str, int]
) -> "tuple[Manifest, str]":
    """The store to measure, and its folder: the manifest's, the gin file's, or the mixture's; cached where need be."""
    if args.manifest:
        found, folder = cache_report.load(args.manifest)
        return found, str(folder)
    if config is not None:
        request = config.data.request()
        return _store(request, measure, args.workers), request.cache_dir
    from flanx.data.request import StoreRequest

    request = StoreRequest(
        mixture=args.mixture,
        split=args.split or "train",
        feature_lengths=measure,
        vocabulary=args.vocabulary,
        cache_dir=os.path.expanduser(args.cache_dir or "~/.cache/flanx"),
        data_dir=args.data_dir,
        imports=tuple(args.imports),
    )
    return _store(request, measure, args.workers), request.cache_dir


def _network(args: argparse.Namespace, config: "TrainConfig | None") -> "ModelConfig":
    if config is not None and args.model is None:
        return config.model
    only = argparse.Namespace(
        gin_file=[args.model or SMALL],
        gin_binding=[],
        gin_search_paths=args.gin_search_paths,
        imports=[],
    )
    return gin_edge.build_model(only)


def _store(request: "StoreRequest", measure: dict[str, int], workers: int | None) -> "Manifest":
    """The mixture at generous lengths; or as it is cached already, where its lengths have changed nothing."""
    from flanx.prep import prepared

    there = prepared.ready(request)
    if there is not None and _whole(there):
        return there
    return prepared.ensure([replace(request, feature_lengths=measure)], workers=workers)[0]


def _whole(manifest: "Manifest") -> bool:
    """Whether no example was cut, or shown fewer exemplars so that it fits."""
    return not any(any(e.clipped.values()) or e.type.startswith("fs") for e in manifest.entries)
