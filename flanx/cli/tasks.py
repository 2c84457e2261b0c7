"""`flanx tasks`: list, show, check and create tasks."""

import argparse
import fnmatch
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flanx.cli.table import Table
from flanx.errors import UserError
from flanx.terminal import command, plural, printable, say

if TYPE_CHECKING:
    from rich.console import Console

    from flanx.data.vocabulary import Vocabulary
    from flanx.data.vocabulary.coverage import Unwritable
    from flanx.registry import TaskSpec

HELP = """\
Look at tasks before a model does: list what is registered, show rendered examples, check for
empty targets, leaks and duplicates, and write a new task file together with its test."""

EXAMPLE = """\
examples:
  flanx tasks list 'playground.*'
  flanx tasks show playground.reverse_words -n 3
  flanx tasks check 'niv2.task1*' --data_dir natural-instructions
  flanx tasks new tickets.triage

`flanx tasks ACTION --help` shows the options of one action, with an example.
"""

_LIST = """\
examples:
  flanx tasks list
  flanx tasks list 'niv2.*squad*'
  flanx tasks list 'cot.*' --count --data_dir FLAN/flan/v2/cot_data
  flanx tasks list 'tickets.*' --import tickets
"""
_SHOW = """\
examples:
  flanx tasks show playground.reverse_words -n 3
  flanx tasks show cot.gsm8k --type fs_opt --split validation --data_dir FLAN/flan/v2/cot_data
  flanx tasks show tickets.triage --import tickets --vocabulary spiece.model
"""
_CHECK = """\
examples:
  flanx tasks check 'playground.*'
  flanx tasks check 'cot.*' --data_dir FLAN/flan/v2/cot_data --max_examples 500
  flanx tasks check tickets.triage --import tickets --vocabulary spiece.model

exit status: 0 when nothing was found, 1 when something was
"""
_NEW = """\
examples:
  flanx tasks new tickets.triage
  flanx tasks show tickets.triage --import tickets
  pytest test_tickets.py
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = _action(
        actions, "list", "one line a dataset: template types, category, splits", _LIST
    )
    listing.add_argument("glob", nargs="?", default="*", metavar="GLOB", help="default: everything")
    listing.add_argument("--count", action="store_true", help="count examples (reads the data)")
    _where(listing)

    show = _action(actions, "show", "rendered examples, as the model will see them", _SHOW)
    show.add_argument("name", metavar="NAME", help="dataset or task")
    show.add_argument("-n", type=int, default=3, metavar="N", help="examples a task (default: 3)")
    show.add_argument("--type", help="one template type (zs_opt, fs_noopt, inv, ...)")
    show.add_argument("--split", help="default: train, else the task's first")
    _where(show)
    _how(show)

    check = _action(
        actions,
        "check",
        "empty, cut or unknown targets, odd rows, leaks, duplicates, unused templates, lost characters",
        _CHECK,
    )
    check.add_argument("glob", metavar="GLOB", help="datasets, tasks, or a mixture")
    check.add_argument(
        "--max_examples",
        type=int,
        default=1000,
        metavar="N",
        help="examples looked at of each task and split, 0 for all (default: 1000)",
    )
    _where(check)
    _how(check)

    new = _action(actions, "new", "a task file, data to go with it, and its test", _NEW)
    new.add_argument("name", metavar="COLLECTION.DATASET", help="for instance tickets.triage")


def run(args: argparse.Namespace) -> int:
    return {"list": _run_list, "show": _run_show, "check": _run_check, "new": _run_new}[
        args.action
    ](args)


def _action(actions: Any, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    return actions.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data_dir", help="folder of data files; default: $FLANX_DATA_DIR")
    parser.add_argument(
        "--import",
        action="append",
        default=[],
        dest="imports",
        metavar="MODULE",
        help="module of yours that registers tasks; repeatable",
    )


def _how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of templates, styles and exemplars"
    )
    parser.add_argument(
        "--vocabulary",
        help="SentencePiece model or Hugging Face folder, to count tokens with; default: the task's own",
    )
    parser.add_argument(
        "--feature_lengths",
        default="inputs=512,targets=128",
        metavar="inputs=N,targets=M",
        help="most tokens of an example (default: inputs=512,targets=128)",
    )


def _run_list(args: argparse.Namespace) -> int:
    from flanx.registry import get_mixture, load_for, mixture_names, specs_of, task_names

    load_for(args.glob, args.imports)
    mixtures = [name for name in mixture_names() if fnmatch.fnmatchcase(name, args.glob)]
    # A glob may stand for mixtures alone; of a mixture's own name, and of any other glob, the datasets are named too.
    alone = mixtures and args.glob not in mixtures and not task_names(args.glob)
    specs = [] if alone else specs_of(args.glob)
    by_dataset: dict[str, list[TaskSpec]] = {}
    for spec in specs:
        by_dataset.setdefault(spec.dataset, []).append(spec)
    table = Table("dataset", "types", "category", "examples" if args.count else "splits")
    for dataset, its in by_dataset.items():
        types = " ".join(spec.type for spec in its)
        splits = _counts(its[0], args.data_dir) if args.count else " ".join(its[0].splits)
        table.add(dataset, types, its[0].category or "", splits)
    if specs:
        table.print()
    if mixtures:
        if specs:
            print()
        parts = Table("mixture", "parts")
        for name in mixtures:
            patterns = [part.pattern for part in get_mixture(name).parts]
            more = f" and {len(patterns) - 4:,} more" if len(patterns) > 4 else ""
            parts.add(name, " ".join(patterns[:4]) + more)
        parts.print()
    return 0


def _counts(spec: "TaskSpec", data_dir: str | None) -> str:
    """`train 100 validation 5`, or that the data is not there."""
    from flanx.registry.mixtures.present_data import PresentData

    if not all(PresentData(split, data_dir)(spec) for split in spec.splits):
        return "no data here"
    return " ".join(f"{split} {spec.count(split, data_dir):,}" for split in spec.splits)


def _run_show(args: argparse.Namespace) -> int:
    from rich.console import Console

    from flanx.cli.task_panels import print_example
    from flanx.registry import Dropped
    from flanx.registry.check import tokeniser

    given = _vocabulary(args)
    lengths = _lengths(args.feature_lengths)
    console = Console()
    for spec in _specs_to_show(args):
        split = _split_to_show(spec, args.split)
        shown = 0
        dropped: dict[str, int] = {}
        vocabulary = tokeniser(spec, given, args.data_dir)
        for example in spec.render(
            split,
            feature_lengths=lengths,
            vocabulary=vocabulary,
            seed=args.seed,
            data_dir=args.data_dir,
        ):
            if isinstance(example, Dropped):
                dropped[example.reason] = dropped.get(example.reason, 0) + 1
                continue
            print_example(console, spec, split, example, vocabulary)
            shown += 1
            if shown >= args.n:
                break
        _say_dropped(console, spec, split, shown, dropped)
    return 0


def _say_dropped(
    console: "Console", spec: "TaskSpec", split: str, shown: int, dropped: dict[str, int]
) -> None:
    for reason, count in dropped.items():
        console.print(f"{spec.name} {split}: {count:,} rows passed over: {reason}", markup=False)
    if not shown:
        console.print(f"{spec.name} {split}: no examples", markup=False)


def _specs_to_show(args: argparse.Namespace) -> list["TaskSpec"]:
    from flanx.registry import load_for, specs_of

    if args.n < 1:
        raise UserError(f"-n {args.n}: show at least 1 example")
    load_for(args.name, args.imports)
    specs = specs_of(args.name)
    datasets = {spec.dataset for spec in specs}
    if len(datasets) > 1:
        first = min(datasets)
        raise UserError(
            f"'{args.name}' is {len(datasets):,} datasets; show one of them, for instance '{first}'"
            f" (flanx tasks list '{args.name}' names them)"
        )
    if args.type is None:
        return specs
    chosen = [spec for spec in specs if spec.type == args.type]
    if not chosen:
        types = ", ".join(spec.type for spec in specs)
        raise UserError(
            f"--type {args.type}: '{args.name}' has no such template type (it has {types})"
        )
    return chosen


def _split_to_show(spec: "TaskSpec", split: str | None) -> str:
    if split is None:
        return "train" if "train" in spec.splits else spec.splits[0]
    if split not in spec.splits:
        raise UserError(
            f"--split {split}: task '{spec.name}' has no such split (it has {', '.join(spec.splits)})"
        )
    return split


def _run_check(args: argparse.Namespace) -> int:
    from flanx.registry import load_for, specs_of
    from flanx.registry.check import check

    if args.max_examples < 0:
        raise UserError(f"--max_examples {args.max_examples}: give a number, or 0 for all")
    load_for(args.glob, args.imports)
    specs = _with_data(specs_of(args.glob), args.glob, args.data_dir)
    vocabulary = _vocabulary(args)
    if vocabulary is None and not all(spec.vocabulary for spec in specs):
        print(
            "no --vocabulary: the lengths of targets are not checked, nor that it has their pieces",
            file=sys.stderr,
        )
    unwritable: dict[str, Unwritable] = {}
    problems = check(
        specs,
        data_dir=args.data_dir,
        vocabulary=vocabulary,
        feature_lengths=_lengths(args.feature_lengths),
        max_examples=args.max_examples or None,
        seed=args.seed,
        unwritable=unwritable,
    )
    _print_unwritable(unwritable)
    datasets = len({spec.dataset for spec in specs})
    counted = f"{plural(len(specs), 'task')} of {plural(datasets, 'dataset')}"
    if not problems:
        print(f"{counted}: nothing found")
        return 0
    table = Table("task", "split", "problem", "count", "for instance")
    for problem in problems:
        table.add(problem.task, problem.split, problem.kind, f"{problem.count:,}", problem.example)
    table.print()
    print(f"{counted}: {plural(len(problems), 'problem')}")
    return 1


def _print_unwritable(unwritable: "Mapping[str, Unwritable]") -> None:
    """What the vocabulary cannot write of each task's examples; nothing where it can write them all."""
    table = Table("task", "characters", "vocabulary")
    losing = {name: lost for name, lost in unwritable.items() if lost.characters}
    for name, lost in losing.items():
        table.add(name, f"{lost.characters:,}", f"loses {lost}")
    if losing:
        table.print()
        print()


def _with_data(specs: Sequence["TaskSpec"], name: str, data_dir: str | None) -> list["TaskSpec"]:
    """The tasks whose files are there, the others counted on stderr; an error where none is."""
    from flanx.registry.mixtures.present_data import PresentData

    by_split = {split: PresentData(split, data_dir) for spec in specs for split in spec.splits}
    here = [spec for spec in specs if all(by_split[split](spec) for split in spec.splits)]
    if not here:
        by_split[specs[0].splits[0]].report(name)
    left_out = {spec.dataset for spec in specs} - {spec.dataset for spec in here}
    if left_out:
        say(f"{printable(name)}: {plural(len(left_out), 'dataset')} without data here left out")
    return here


def _run_new(args: argparse.Namespace) -> int:
    from flanx.registry import scaffold

    collection = args.name.partition(".")[0]
    for path in scaffold.write(args.name, Path()):
        print(f"wrote {printable(path)}")
    show = command("flanx", "tasks", "show", args.name, "--import", collection)
    print(f"look at it: {show}")
    print(f"test it:    {command('pytest', f'test_{collection}.py')}")
    return 0


def _vocabulary(args: argparse.Namespace) -> "Vocabulary | None":
    if args.vocabulary is None:
        return None
    from flanx.data import vocabulary

    return vocabulary.load(args.vocabulary, args.data_dir)


def _lengths(text: str) -> dict[str, int]:
    from flanx.cli.cache import _lengths as parse

    return parse(text)
