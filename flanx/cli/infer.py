"""`flanx infer`: a trained model answers a prompt, a conversation, a JSONL file, or a registered task's examples."""

import argparse
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flanx.cli import gin_edge, opening
from flanx.errors import UserError
from flanx.terminal import say

HELP = """\
Answer one prompt, prompts typed one after the other, every line of a JSONL file, or the examples of
a registered task. A file job that was stopped goes on where it was when the same command is run
again. MODEL_DIR may also be exported parameters, a T5X checkpoint or a Hugging Face folder."""

EXAMPLE = """\
examples:
  flanx infer runs/quickstart --prompt "Find the animal that comes last: rabbit zebra shovel white"
  flanx infer runs/quickstart --interactive
  flanx infer runs/quickstart --input questions.jsonl --output answers.jsonl
  flanx infer runs/quickstart --input questions.jsonl --output answers.jsonl \\
      --temperature 0.7 --top_p 0.9 --num_samples 4 --scores
  flanx infer runs/quickstart --task playground.reverse_words.zs_noopt -n 5
  producer | flanx infer runs/quickstart --input - --output - | consumer
A line of questions.jsonl is an object such as {"inputs": "Reverse the list: a, b"}; the line of
answers.jsonl is the same object with "prediction" added, in the same order. A line may bring
settings of its own: {"inputs": "...", "decoding": {"temperature": 0.7, "max_length": 20,
"stop": ["."]}}; their names are temperature, top_k, top_p, seed, max_length, stop, beams, alpha,
length_penalty.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", metavar="MODEL_DIR", help="folder of a run or of a checkpoint")
    what = parser.add_argument_group("what to answer (one of)")
    what.add_argument("--prompt", metavar="TEXT", help="one prompt; the answer goes to stdout")
    what.add_argument(
        "--interactive",
        action="store_true",
        help="prompts from the terminal or a pipe, line by line",
    )
    what.add_argument(
        "--input", metavar="FILE", help="JSONL file of questions, with --output; - reads stdin"
    )
    what.add_argument("--task", metavar="NAME", help="registered task, dataset or glob")
    files = parser.add_argument_group("files and tasks")
    files.add_argument("--output", metavar="FILE", help="JSONL file of answers; - writes stdout")
    files.add_argument(
        "--field",
        help="field of a line that holds its question (default: inputs)",
    )
    files.add_argument(
        "--skip_bad", action="store_true", help="put malformed lines in <output>.bad and go on"
    )
    files.add_argument("--split", help="with --task (default: validation)")
    files.add_argument("-n", type=int, metavar="N", help="examples of each task (default: 5)")
    how = parser.add_argument_group("how to answer")
    how.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 takes the likeliest token (default); above, tokens are drawn",
    )
    how.add_argument("--top_k", type=int, default=0, help="draw among the k likeliest; 0: all")
    how.add_argument(
        "--top_p", type=float, default=1.0, help="draw among the likeliest of this probability"
    )
    how.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of the draws; they depend on it and on the question's place (default: 0)",
    )
    how.add_argument("--num_samples", type=int, default=1, help="answers to each question")
    how.add_argument("--beams", type=int, default=1, help="beam search with as many beams")
    how.add_argument(
        "--alpha", type=float, default=0.6, help="its length penalty, as T5X's (default: 0.6)"
    )
    how.add_argument(
        "--length_penalty",
        type=float,
        help="score beams as transformers does, by log-probability / length ** this (its default: 1.0), not as T5X",
    )
    how.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="the answer ends before TEXT; may be given several times",
    )
    how.add_argument("--scores", action="store_true", help='add each answer\'s "log_probability"')
    how.add_argument(
        "--history",
        type=int,
        default=0,
        metavar="N",
        help="with --interactive: put the last N turns in front of a prompt, each as question, line break, answer "
        "and an empty line; T5 has no memory of its own, so by default every prompt stands alone",
    )
    how.add_argument(
        "--max_input_length", type=int, help="most tokens of a question; default: the run's"
    )
    how.add_argument(
        "--max_decode_length", type=int, help="most tokens of an answer; default: the run's"
    )
    how.add_argument(
        "--batch_size", type=int, default=32, help="answers made together (default: 32)"
    )
    parser.add_argument("--step", type=int, help="checkpoint to use; default: the newest")
    gin_edge.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    _check(args)
    from flanx import writable
    from flanx.cli import infer_jobs
    from flanx.evaluation import trained
    from flanx.evaluation.answering import Answerer
    from flanx.sharding.mesh import make_mesh, rules_of
    from flanx.training import startup
    from flanx.training.params_io import find_params

    settings = _settings(args)
    _check_texts(args)
    if args.output not in (None, "-"):
        writable.check_file(args.output, "--output")
    if args.input not in (None, "-") and not Path(args.input).is_file():
        raise UserError(f"no such file: '{args.input}' (--input)")
    folder = find_params(args.model_dir, args.step)
    config, source = opening.configuration(args, folder, args.task or "")
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
        say(f"flanx infer: {note}")
    lengths = dict(opened.feature_lengths)
    lengths["inputs"] = args.max_input_length or lengths["inputs"]
    lengths["targets"] = args.max_decode_length or lengths["targets"]
    one = args.prompt is not None or args.interactive
    answerer = Answerer(
        opened,
        inputs_length=lengths["inputs"],
        settings={**settings, "max_length": lengths["targets"]},
        slots=min(args.batch_size, args.num_samples) if one else args.batch_size,
        samples=args.num_samples,
        mesh=mesh,
    )
    job = {"model": str(folder.absolute()), "lengths": lengths, "settings": settings}
    job |= {"samples": args.num_samples, "scores": args.scores}
    if args.prompt is not None:
        infer_jobs.answer_prompt(args, answerer)
    elif args.interactive:
        infer_jobs.converse(args, answerer, {**settings, "max_length": lengths["targets"]})
    elif args.task:
        infer_jobs.answer_task(args, answerer, config.data, opened, lengths, job)
    else:
        with _readable(args.input) as questions:
            infer_jobs.answer_lines(args, questions, answerer, job)
    if answerer.cut:
        print(
            f"flanx infer: {answerer.cut:,} question{'s' if answerer.cut > 1 else ''} beyond "
            f"{lengths['inputs']} tokens lost the end; --max_input_length=N reads more",
            file=sys.stderr,
        )
    return 0


def _check(args: argparse.Namespace) -> None:
    ways = [args.prompt is not None, args.interactive, args.input is not None, bool(args.task)]
    if sum(ways) != 1:
        raise UserError(
            'say what to answer in one way: --prompt "...", --interactive, --input FILE, or --task NAME'
        )
    if args.input and not args.output:
        raise UserError("--input FILE needs --output FILE for the answers")
    same = args.input != "-" and args.input and Path(args.input).absolute()
    if same and same == Path(args.output).absolute():
        raise UserError(f"--output would overwrite the questions in '{args.input}'")
    for flag, given, needed in (
        ("--history", args.history, ("interactive",)),
        ("--output", args.output, ("input", "task")),
        ("--skip_bad", args.skip_bad, ("input",)),
        ("--field", args.field is not None, ("input",)),
        ("--split", args.split is not None, ("task",)),
        ("-n", args.n is not None, ("task",)),
    ):
        if given and not any(getattr(args, name) for name in needed):
            raise UserError(f"{flag} needs {' or '.join(f'--{name}' for name in needed)}")
    for name, everything in (("top_k", 0), ("top_p", 1.0)):
        # A line of a file and a conversation's /set may bring the temperature.
        if getattr(args, name) != everything and not (
            args.temperature or args.input or args.interactive
        ):
            raise UserError(
                f"--{name} without --temperature takes the likeliest token each time; draw with --temperature=0.7, say"
            )
    if args.num_samples > 1 and args.interactive:
        raise UserError("--interactive gives one answer a prompt; leave --num_samples out")
    if args.num_samples > 1 and not args.temperature:
        raise UserError(
            f"--num_samples={args.num_samples} of the one likeliest answer are all the same; "
            "draw them with --temperature=0.7, say"
        )
    for name in ("batch_size", "n", "num_samples", "max_input_length", "max_decode_length"):
        value = getattr(args, name)
        if value is not None and value < 1:
            flag = "-n" if name == "n" else f"--{name}"
            raise UserError(f"{flag}={value}: give 1 or more")
    if args.history < 0:
        raise UserError(f"--history={args.history}: give 0 or more")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from flanx.decoding.requests import SETTINGS, mistake

    settings = {name: getattr(args, name) for name in SETTINGS if name != "max_length"}
    if wrong := mistake(settings):
        raise UserError(f"--{wrong}")
    return settings


def _check_texts(args: argparse.Namespace) -> None:
    """Refuses texts of the command line that are no text: bytes that are not UTF-8, half a surrogate pair."""
    from flanx.evaluation.question_file import half_pair

    for flag, text in (
        ("--prompt", args.prompt),
        ("--field", args.field),
        *(("--stop", stop) for stop in args.stop),
    ):
        if text is not None and (wrong := half_pair(text)):
            raise UserError(f"{flag}: {wrong}; give it as UTF-8 text, or in a file with --input")


@contextlib.contextmanager
def _readable(name: str) -> Iterator[str]:
    """The file itself; what comes from stdin is put into a file first, since it is read twice."""
    if name != "-":
        yield name
        return
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as spooled:
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.flush()
        yield spooled.name
