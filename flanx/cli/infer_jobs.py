"""What `flanx infer` does once a model is open: a prompt, a conversation, a file, a task."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from flanx.cli.conversation import Conversation
from flanx.evaluation import question_file, trained
from flanx.evaluation.answer_file import (
    Answers,
    Questions,
    Row,
    answer_file,
    in_order,
    write_line,
)
from flanx.evaluation.answering import OVERRIDES, Answerer, Question, fields
from flanx.evaluation.progress import shown
from flanx.evaluation.suites import EvalSuite
from flanx.prep import prepared
from flanx.terminal import printable, say
from flanx.training.config import DataConfig

STDOUT = "-"


def answer_prompt(args: argparse.Namespace, answerer: Answerer) -> None:
    """Prints the answers to one prompt, a line each; with scores, log-probability and a tab before each."""
    question = Question(0, answerer.encoded(args.prompt), {})
    for _, results in answerer.answers([question]):
        for result in results:
            score = f"{result.log_probability:.4f}\t" if args.scores else ""
            print(f"{score}{printable(result.text, lines=True)}")


def converse(args: argparse.Namespace, answerer: Answerer, settings: Mapping[str, Any]) -> None:
    """Answers prompts as they are typed, and shows each answer while it is made."""

    def answer(
        prompt: str, current: Mapping[str, Any], turn: int, show: Callable[[str], None]
    ) -> tuple[str, str]:
        own = {name: value for name, value in current.items() if value != settings[name]}
        question = Question(turn, answerer.encoded(prompt), own)
        ((_, (result,)),) = answerer.answers([question], lambda number, text: show(text))
        return result.text, f"  [{result.log_probability:.4f}]" if args.scores else ""

    Conversation(
        answer,
        settings,
        check=answerer.wrong,
        fits=answerer.fits,
        history=args.history,
    ).run()


def answer_lines(
    args: argparse.Namespace, source: str, answerer: Answerer, job: Mapping[str, Any]
) -> None:
    """Answers a JSONL file into another, or onto stdout."""

    def check(row: Row) -> str | None:
        wrong = answerer.wrong(row[OVERRIDES]) if OVERRIDES in row else None
        if not wrong and OVERRIDES in row:
            stops = (question_file.half_pair(stop) for stop in row[OVERRIDES].get("stop", ()))
            wrong = next((f"stop: {found}" for found in stops if found), None)
        return wrong and f"field '{OVERRIDES}': {wrong}"

    field = args.field or "inputs"
    questions, bad = question_file.read(source, field, check=check)
    name = "stdin" if args.input == STDOUT else args.input
    if not args.skip_bad:
        question_file.refuse(name, bad)

    def asked(rows: Iterator[tuple[int, Row]]) -> Iterator[Question]:
        for place, row in rows:
            yield Question(place, answerer.encoded(row[field]), row.get(OVERRIDES, {}))

    where = ""
    if _in_place(args.output):
        for one in bad:
            say(f"flanx infer: {name}:{one.number}: left out: {printable(one.wrong)}")
    else:
        side = question_file.put_aside(args.output, bad)
        lines = "line is" if len(bad) == 1 else "lines are"
        where = f"; {len(bad):,} malformed {lines} in {side}" if bad else ""
    _write(args, questions, _answers(args, answerer, asked), job, where)


def answer_task(
    args: argparse.Namespace,
    answerer: Answerer,
    data: DataConfig,
    opened: trained.Trained,
    lengths: Mapping[str, int],
    job: Mapping[str, Any],
) -> None:
    """Answers examples of registered tasks, into a file or for the eye."""
    data = trained.usable_data(data, opened.vocabulary)
    split, count = args.split or "validation", args.n or 5
    suite = EvalSuite("infer", args.task, split, feature_lengths=lengths, max_examples=count)
    own = trained.config_file(opened.folder) if trained.has_config(opened.folder) else None
    (found,) = prepared.ensure([data.eval_request(suite)], workers=data.cache_workers, named_by=own)
    for name, reasons in [*((e.task, e.dropped) for e in found.entries), *found.left_out.items()]:
        if reasons:
            words = ", ".join(f"{why}: {number:,}" for why, number in reasons.items())
            print(f"flanx infer: rows of '{name}' are left out ({words})", file=sys.stderr)
    stores = [(entry.task, entry.open(data.cache_dir)) for entry in found.entries]
    places = [(task, store, i) for task, store in stores for i in range(store.num_examples)]

    def rows(first: int) -> Iterator[Row]:
        for task, store, i in places[first:]:
            yield {
                "task": task,
                "index": int(store.example_ids[i]),
                "input": store.inputs_text(i),
                "references": store.references(i),
            }

    def asked(rows: Iterator[tuple[int, Row]]) -> Iterator[Question]:
        for place, _ in rows:
            _, store, i = places[place]
            yield Question(place, store.inputs(i), {})

    identity = {"stores": [entry.path for entry in found.entries]}
    questions = Questions(len(places), rows, identity)
    answers = _answers(args, answerer, asked)
    if args.output:
        _write(args, questions, answers, job)
    else:
        _print(row | dict(added) for row, added in in_order(questions, answers))


def _answers(
    args: argparse.Namespace,
    answerer: Answerer,
    asked: Callable[[Iterator[tuple[int, Row]]], Iterator[Question]],
) -> Answers:
    def answers(rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        for place, results in answerer.answers(asked(rows)):
            yield place, fields(results, several=args.num_samples > 1, scores=args.scores)

    return answers


def _write(
    args: argparse.Namespace,
    questions: Questions,
    answers: Answers,
    job: Mapping[str, Any],
    note: str = "",
) -> None:
    with shown("lines") as progress:
        if _in_place(args.output):
            with _stream(args.output) as out:
                for row, added in in_order(questions, answers):
                    write_line(out, row, added)
                    out.flush()
            return
        outcome = answer_file(
            questions,
            args.output,
            answers,
            job=job,
            progress=lambda done, total: progress(done, total, "infer"),
        )
    kept = f" ({outcome.kept:,} of them before it was stopped)" if outcome.kept else ""
    say(f"{outcome.answered:,} answers in {printable(args.output)}{kept}{note}")


def _in_place(output: str) -> bool:
    """Whether answers are written as they come: onto stdout, a pipe or a device, which hold no partial file."""
    return output == STDOUT or (Path(output).exists() and not Path(output).is_file())


@contextlib.contextmanager
def _stream(output: str) -> Iterator[BinaryIO]:
    if output == STDOUT:
        yield sys.stdout.buffer
    else:
        with Path(output).open("wb") as handle:
            yield handle


def _print(records: Iterable[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for record in records:
        console.print(Text(printable(f"{record['task']} #{record['index']}"), style="bold"))
        console.print(Text(printable(record["input"], lines=True)))
        wanted = " | ".join(json.dumps(text, ensure_ascii=False) for text in record["references"])
        console.print(Text(f"reference:  {printable(wanted)}", style="green"))
        texts = record.get("predictions") or [record["prediction"]]
        values = record.get("log_probabilities") or [record.get("log_probability")]
        for i, text in enumerate(texts):
            answer = json.dumps(text, ensure_ascii=False)
            score = "" if values[0] is None else f"  [{values[i]:.4f}]"
            console.print(Text(f"prediction: {printable(answer)}{score}", style="cyan"))
        console.print()
