"""`flanx infer`: a trained model answers a prompt, a JSONL file, or a registered task's examples."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from flanx.cli import gin_edge
from flanx.errors import UserError

HELP = """\
Answer one prompt, every line of a JSONL file, or the examples of a registered task. A file job that
was stopped goes on where it was when the same command is run again."""

EXAMPLE = """\
examples:
  flanx infer runs/quickstart --prompt "Find the animal that comes last: rabbit zebra shovel white"
  flanx infer runs/quickstart --input questions.jsonl --output answers.jsonl
  flanx infer runs/quickstart --task playground.reverse_words.zs_noopt -n 5
A line of questions.jsonl is an object such as {"inputs": "Reverse the list: a, b"}; the line of
answers.jsonl is the same object with "prediction" added, in the same order.
"""

WINDOW_BATCHES = 8  # batches that are sorted by length and written together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model_dir", metavar="MODEL_DIR", help="folder that flanx train wrote, or an export"
    )
    what = parser.add_argument_group("what to answer (one of)")
    what.add_argument("--prompt", metavar="TEXT", help="one prompt; the answer goes to stdout")
    what.add_argument("--input", metavar="FILE", help="JSONL file of questions, with --output")
    what.add_argument("--task", metavar="NAME", help="registered task, dataset or glob")
    parser.add_argument("--output", metavar="FILE", help="JSONL file of answers")
    parser.add_argument(
        "--field",
        default="inputs",
        help="field of a line that holds its question (default: inputs)",
    )
    parser.add_argument(
        "--skip_bad", action="store_true", help="put malformed lines in <output>.bad and go on"
    )
    parser.add_argument("--split", default="validation", help="with --task (default: validation)")
    parser.add_argument("-n", type=int, default=5, metavar="N", help="examples of each task")
    parser.add_argument("--step", type=int, help="checkpoint to use; default: the newest")
    parser.add_argument("--batch_size", type=int, default=32, help="rows of a batch (default: 32)")
    parser.add_argument(
        "--max_input_length", type=int, help="most tokens of a question; default: the run's"
    )
    parser.add_argument(
        "--max_decode_length", type=int, help="most tokens of an answer; default: the run's"
    )
    gin_edge.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    _check(args)
    from flanx.evaluation import trained
    from flanx.evaluation.predictor import Predictor
    from flanx.training import startup
    from flanx.training.config import MeshConfig
    from flanx.training.mesh import make_mesh, rules_of

    if args.input and not Path(args.input).is_file():
        raise UserError(f"no such file: '{args.input}' (--input)")
    folder = trained.find_checkpoint(args.model_dir, args.step)
    config = _config(args, folder)
    startup.prepare(startup.compile_cache(config) if config else "")
    layout = config.mesh if config else MeshConfig()
    mesh = make_mesh(layout)
    opened = trained.open_trained(folder, mesh=mesh, rules=rules_of(layout))
    lengths = dict(opened.feature_lengths)
    lengths["inputs"] = args.max_input_length or lengths["inputs"]
    lengths["targets"] = args.max_decode_length or lengths["targets"]
    if args.task:
        return _answer_task(args, config, opened, lengths, mesh)
    predictor = Predictor(opened.model, lengths["inputs"], mesh)

    cut: list[int] = []

    def answer(texts: Any) -> list[str]:
        return trained.answer(
            opened,
            predictor,
            texts,
            inputs_length=lengths["inputs"],
            max_decode_length=lengths["targets"],
            batch_size=args.batch_size,
            clipped=cut.append,
        )

    if args.prompt is not None:
        print(answer([args.prompt])[0])
    else:
        job = {"model": str(folder.absolute()), "lengths": lengths}
        _answer_file(args, answer, job)
    if count := sum(cut):
        print(
            f"flanx infer: {count:,} question{'s' if count > 1 else ''} beyond {lengths['inputs']} tokens lost the "
            "end; --max_input_length=N reads more",
            file=sys.stderr,
        )
    return 0


def _check(args: argparse.Namespace) -> None:
    ways = [args.prompt is not None, args.input is not None, args.task is not None]
    if sum(ways) != 1:
        raise UserError(
            'say what to answer in one way: --prompt "...", --input FILE, or --task NAME'
        )
    if args.input and not args.output:
        raise UserError("--input FILE needs --output FILE for the answers")
    if args.input and Path(args.input).absolute() == Path(args.output).absolute():
        raise UserError(f"--output would overwrite the questions in '{args.input}'")
    for name in ("batch_size", "n", "max_input_length", "max_decode_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            flag = "-n" if name == "n" else f"--{name}"
            raise UserError(f"{flag}={value}: give 1 or more")


def _config(args: argparse.Namespace, folder: Path) -> Any:
    """The run's configuration; None for an export that has none."""
    from flanx.evaluation import trained
    from flanx.training.config import TrainConfig

    if not trained.has_config(folder):
        return None
    file = trained.config_file(folder, args.model_dir)
    return gin_edge.build(TrainConfig, args, extra_files=[file])


def _answer_file(args: argparse.Namespace, answer: Any, job: dict[str, Any]) -> None:
    from flanx.evaluation.answer_file import answer_file
    from flanx.evaluation.progress import shown

    with shown("lines") as progress:
        outcome = answer_file(
            args.input,
            args.output,
            answer,
            field=args.field,
            window=args.batch_size * WINDOW_BATCHES,
            job=job,
            skip_bad=args.skip_bad,
            progress=lambda done, total: progress(done, total, "infer"),
        )
    kept = f" ({outcome.kept:,} of them before it was stopped)" if outcome.kept else ""
    bad = ""
    if outcome.skipped:
        lines = "line is" if outcome.skipped == 1 else "lines are"
        bad = f"; {outcome.skipped:,} malformed {lines} in {args.output}.bad"
    print(f"{outcome.answered:,} answers in {args.output}{kept}{bad}", file=sys.stderr)


def _answer_task(
    args: argparse.Namespace, config: Any, opened: Any, lengths: dict[str, int], mesh: Any
) -> int:
    from flanx.data import manifest
    from flanx.evaluation import predictions, trained
    from flanx.evaluation.predictor import Predictor
    from flanx.evaluation.suites import EvalSuite
    from flanx.training.config import DataConfig

    data = config.data if config else DataConfig(args.task, lengths, "~/.cache/flanx")
    data = trained.usable_data(data, opened.vocabulary)
    suite = EvalSuite("infer", args.task, args.split, feature_lengths=lengths, max_examples=args.n)
    (found,) = manifest.ensure([data.eval_request(suite)], workers=data.cache_workers)
    stores = [(entry.task, entry.open(data.cache_dir)) for entry in found.entries]
    rows = [(task, store, i) for task, store in stores for i in range(store.num_examples)]
    predictor = Predictor(opened.model, lengths["inputs"], mesh)
    ids = predictor.generate(
        opened.params,
        [store.inputs(i) for _, store, i in rows],
        lengths["targets"],
        batch_size=args.batch_size,
    )
    records = [
        {
            "task": task,
            "index": int(store.example_ids[i]),
            "input": store.inputs_text(i),
            "references": store.references(i),
            "prediction": opened.vocabulary.decode(answer),
        }
        for (task, store, i), answer in zip(rows, ids, strict=True)
    ]
    if args.output:
        predictions.write_predictions(args.output, records)
    else:
        _print(records)
    return 0


def _print(records: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for record in records:
        console.print(Text(f"{record['task']} #{record['index']}", style="bold"))
        console.print(Text(record["input"]))
        wanted = " | ".join(json.dumps(text, ensure_ascii=False) for text in record["references"])
        console.print(Text(f"reference:  {wanted}", style="green"))
        answer = json.dumps(record["prediction"], ensure_ascii=False)
        console.print(Text(f"prediction: {answer}\n", style="cyan"))
