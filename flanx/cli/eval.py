"""`flanx eval`: a trained model's scores on its own suites, or on any other tasks."""

import argparse
import dataclasses
import json
from typing import Any

from flanx.cli import gin_edge, opening
from flanx.errors import UserError
from flanx.terminal import plural, printable, say

HELP = """\
Evaluate a trained model: on the suites of its own run (the same figures as the run gave), on those
of a gin file, or on any registered tasks with --tasks. MODEL_DIR may also be exported parameters, a
T5X checkpoint or a Hugging Face folder. Answers go to MODEL_DIR/eval, one JSON line an example."""

EXAMPLE = """\
examples:
  flanx eval runs/quickstart
  flanx eval runs/quickstart --step 300
  flanx eval runs/quickstart --tasks 'playground.*.zs_opt' --max_examples 50
  flanx eval flan-t5-small --gin_file=recipes/flan_t5_eval.gin --gin.DATA_DIR=data
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="folder of a run or of a checkpoint")
    parser.add_argument("--step", type=int, help="checkpoint to evaluate; default: the newest")
    parser.add_argument(
        "--tasks", metavar="GLOB", help="tasks, datasets or a mixture, in place of the run's suites"
    )
    parser.add_argument("--split", help="their split (with --tasks; default: validation)")
    parser.add_argument("--max_examples", type=int, help="most examples of each (with --tasks)")
    parser.add_argument("--batch_size", type=int, help="rows of a batch; default: each suite's")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder of answers; default: MODEL_DIR/eval, MODEL_DIR/eval/<split> with --tasks, and "
        "MODEL_DIR/eval/overridden with other settings than the run's",
    )
    gin_edge.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if not args.tasks and (args.split or args.max_examples):
        raise UserError("--split and --max_examples choose among --tasks GLOB; give that as well")
    if args.output == "":
        raise UserError("--output is empty: give the path of a folder")
    from flanx import writable
    from flanx.evaluation import scoring, trained
    from flanx.evaluation.answer_folder import AnswerFolder
    from flanx.evaluation.evaluator import Evaluator
    from flanx.evaluation.progress import shown
    from flanx.evaluation.suites import scopes
    from flanx.prep import prepared
    from flanx.sharding.mesh import make_mesh, rules_of
    from flanx.training import startup
    from flanx.training.params_io import find_params

    folder = find_params(args.model_dir, args.step)
    config, source = opening.configuration(args, folder, args.tasks or "")
    own = trained.has_config(folder)
    suites = _suites(args, config, own=own)
    output = _output(args, suites)
    writable.check_folder(output, "the folder of answers (--output)")
    startup.prepare(opening.compiled_programs(args, config))
    mesh = make_mesh(config.mesh)
    opened = trained.open_trained(
        folder,
        mesh=mesh,
        rules=rules_of(config.mesh),
        config=config.model,
        vocabulary=config.data.vocabulary,
        feature_lengths=config.data.feature_lengths,
        source=source,
    )
    for note in opened.notes:
        say(f"flanx eval: {note}")
    as_trained = own and not (args.tasks or args.gin_file)
    data = trained.usable_data(config.data, opened.vocabulary, as_trained=as_trained)
    requests = [data.eval_request(suite) for suite in suites]
    manifests = prepared.ensure(
        requests,
        workers=data.cache_workers,
        named_by=trained.config_file(folder) if own else None,
    )
    # Where all datasets are trained on there is nothing to tell, and where their store is gone nothing is known.
    training = prepared.ready(data.request()) if own and data.num_tasks else None
    for line in scopes(suites, manifests, training) if training else ():
        say(f"flanx eval: {line}")
    answers = AnswerFolder(output)
    evaluator = Evaluator(
        opened.model,
        opened.vocabulary,
        suites,
        manifests,
        data.cache_dir,
        args.model_dir,
        mesh=mesh,
        eval_steps=config.eval_steps,
        output_dir=output,
        write=answers.write,
        trained_on={entry.dataset for entry in training.entries} if training else None,
    )
    step = opened.step or 0
    with shown("examples") as progress:
        values = evaluator.run(opened.params, step, progress)
    answers.write(output / f"results-{step}.json", json.dumps(values, indent=1) + "\n")
    try:
        _print(values, step)
    finally:  # where the answers are is told to those, too, whose table finds no room
        for line in [*answers.report(), *scoring.lines(evaluator.failures)]:
            say(f"flanx eval: {line}")
    if answers.refused:
        return 1
    return UserError.status if evaluator.failures else 0


def _output(args: argparse.Namespace, suites: list[Any]) -> Any:
    """The folder of answers; the run's own answers stay as they are."""
    from etils import epath

    from flanx.evaluation import predictions

    if args.output is not None:
        return epath.Path(args.output)
    changed = "overridden" if args.gin_file or args.gin_binding else ""
    folder = epath.Path(args.model_dir) / predictions.FOLDER
    return folder / (suites[0].split if args.tasks else changed)


def _suites(args: argparse.Namespace, config: Any, *, own: bool) -> list[Any]:
    """What to evaluate; `own` says whether the configuration is that of the checkpoint's run."""
    from flanx.evaluation.suites import EvalSuite

    suites = list(config.evals)
    if args.tasks:
        suites = [
            EvalSuite(
                name="tasks",
                mixture=args.tasks,
                split=args.split or "validation",
                max_examples=args.max_examples,
            )
        ]
    if not suites:
        lacks = (
            f"the run in '{args.model_dir}' has no evaluation suites"
            if own
            else f"'{args.model_dir}' has no config.gin, so its run's suites and data are unknown"
        )
        raise UserError(
            f"{lacks}; say what to evaluate with --tasks, or with a gin file (recipes/flan_t5_eval.gin, say)"
        )
    if args.batch_size is not None:
        if args.batch_size < 1:
            raise UserError(f"--batch_size={args.batch_size}: give 1 or more rows")
        suites = [dataclasses.replace(suite, batch_size=args.batch_size) for suite in suites]
    return suites


def _print(values: dict[str, float], step: int) -> None:
    """A table with a row for each task, and each suite's means in bold; each with what it is of."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flanx.evaluation import counts

    rows: dict[tuple[str, str], dict[str, float]] = {}
    for key, value in values.items():
        suite, _, rest = key.partition("/")
        task, _, metric = rest.rpartition("/")
        rows.setdefault((suite, task), {})[metric] = value
    left_out = any(name.endswith(f"/{counts.LEFT_OUT}") for name in values)
    table = Table(title=f"Step {step:,}", title_justify="left")
    for heading in ("suite", "task"):
        table.add_column(heading, overflow="fold")
    table.add_column("examples", justify="right")
    if left_out:
        table.add_column("left out", justify="right")
        table.caption = (
            "left out: rows that no example was made of (index.json has the reasons); in no score"
        )
        table.caption_justify = "left"
    table.add_column("loss", justify="right")
    table.add_column("scores (percent)", overflow="fold")
    last = None
    for (suite, task), found in rows.items():
        if suite != last:
            table.add_section()
            last = suite
        loss = "-" if "loss" not in found else f"{found['loss']:.3f}"
        scores = ", ".join(
            f"{name} {value:.1f}{_of(found, name)}"
            for name, value in found.items()
            if name != "loss" and not counts.is_count(name)
        )
        cells = [f"{int(found.get(counts.EXAMPLES, 0)):,}"]
        if left_out:
            cells.append(f"{int(found.get(counts.LEFT_OUT, 0)):,}")
        what = task or f"mean of {plural(int(found.get(counts.TASKS, 0)), 'task')}"
        texts = [suite, what, *cells, loss + _of(found, "loss"), scores]
        table.add_row(*(Text(printable(t)) for t in texts), style=None if task else "bold")
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def _of(found: dict[str, float], metric: str) -> str:
    """Of how many examples or tasks a score is, where those are not all of its row."""
    from flanx.evaluation import counts

    for what in (counts.EXAMPLES, counts.TASKS):
        if (number := found.get(counts.fewer(metric, what))) is not None:
            return f" (of {int(number):,})"
    return ""
