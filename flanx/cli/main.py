"""The `flanx` command: finds the subcommand, runs it, and turns errors into exit statuses.

Exit status: 0 done; 2 the user's mistake, one line and no traceback; 3 a plan that does not fit; 65 training diverged,
its report in one line; 75 stopped or interrupted where it resumes (start it again); 1 anything else.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from flanx import __version__, child_process
from flanx.errors import UserError, did_you_mean
from flanx.terminal import printable

STOPPED = 75
# Texts, and the report's name, which is then made up.
_MAY_BE_EMPTY = ("prompt", "beam_options", "report")

COMMANDS = {
    "train": "train a model on a mixture of tasks",
    "eval": "evaluate a trained model on held-in and held-out tasks",
    "infer": "answer prompts with a trained model",
    "cache": "render and tokenise a mixture into the token store",
    "lengths": "recommend row lengths for a mixture",
    "plan": "check a run against a TPU slice or GPUs that are not here",
    "convert": "convert a checkpoint between flanx, T5X and Hugging Face",
    "tasks": "list, show, check and create tasks",
}

EPILOG = """\
examples:
  flanx train --gin_file=quickstart.gin
  flanx tasks show playground.reverse_words -n 3
  flanx infer runs/quickstart --prompt "Find the animal that comes last: rabbit zebra shovel white"

`flanx COMMAND --help` shows the options of one command, with an example.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        return _flushed(argv, _main(argv))
    except SystemExit as ended:  # --help, and mistakes in the flags
        status = ended.code if isinstance(ended.code, int) else 0
        if isinstance(ended.__context__, BrokenPipeError):  # rich's way of taking it
            status = 0
        raise SystemExit(_flushed(argv, status)) from None


def _main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        _top_parser().print_help()
        return 0
    if argv[0] == "--version":
        print(f"flanx {__version__}")
        return 0
    if argv[0] not in COMMANDS:
        hint = did_you_mean(argv[0], COMMANDS) or f"; commands: {', '.join(COMMANDS)}"
        _fail("flanx", f"no command '{argv[0]}'{hint}")
        return 2
    return _run(argv[0], argv[1:])


def _flushed(argv: list[str], status: int) -> int:
    """Writes out what standard output still holds; Python would do it later, with a traceback and status 120."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        _abandon_output()
        return status
    except OSError as error:
        _abandon_output()
        if status == 0:
            who = " ".join(["flanx", *argv[:1]])
            error.filename = "standard output"
            line = _refused_by_system(error) or f"standard output fails ({error.strerror})"
            print(f"{who}: {line}", file=sys.stderr)
        return status or 1


def _abandon_output() -> None:
    """Nobody can take what standard output still holds: it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return argparse.ArgumentParser(
        prog="flanx",
        description="Instruction tuning of language models the Flan way.\n\ncommands:\n" + table,
        usage="flanx [--version] COMMAND [OPTIONS]",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _run(command: str, argv: list[str]) -> int:
    with child_process.signed(command) as typed:
        return _run_signed(command, argv, f"flanx {typed}")


def _run_signed(command: str, argv: list[str], who: str) -> int:
    module = importlib.import_module(f"flanx.cli.{command}")
    parser = _Parser(
        prog=f"flanx {command}",
        description=module.HELP,
        epilog=module.EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    try:
        args = parser.parse_args(_gin_flags_together(argv))
        _refuse_empty(parser, args)
        return module.run(args)
    except UserError as error:
        # A child process that already said its line passes an empty message on.
        if str(error):
            _fail(who, error)
        return error.status
    except BrokenPipeError:
        # The reader of our output went away (`flanx tasks list | head`).
        _abandon_output()
        return 0
    except KeyboardInterrupt:
        _fail(who, "interrupted; the same command goes on")
        return STOPPED
    except OSError as error:
        if (line := _refused_by_system(error)) is None:
            raise
        _fail(who, line)
        return 1


def _refused_by_system(error: OSError) -> str | None:
    """One line on a full disk, or too few open files or rights; None for what needs its traceback."""
    from flanx import system_errors

    fix, number = system_errors.fix(error), system_errors.number(error)
    if fix is None or number is None:
        return None
    where = f" ({error.filename})" if error.filename else ""
    full = number in system_errors.SPACE
    what = "the disk is full" if full else os.strerror(number).lower()
    return f"{what}{where}: {fix}, and run the same command again"


def _fail(who: str, text: object) -> None:
    """One line on stderr, whatever stands in the names that it quotes."""
    print(f"{who}: {printable(text)}", file=sys.stderr)


def _refuse_empty(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """An empty path would mean the working directory, or nothing: what an unset shell variable leaves."""
    for action in parser._actions:
        given = getattr(args, action.dest, None)
        if isinstance(action, argparse._SubParsersAction):
            if given is not None:
                _refuse_empty(action.choices[given], args)
            continue
        values = given if isinstance(given, list) else [given]
        if "" in values and action.dest not in _MAY_BE_EMPTY and action.default != "":
            name = action.option_strings[0] if action.option_strings else action.metavar
            raise UserError(f"{name or action.dest} is empty (an unset shell variable?)")


class _Parser(argparse.ArgumentParser):
    """A mistake in the flags is one line, as every other mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {printable(message)}; see '{self.prog} --help'\n")


def _gin_flags_together(argv: list[str]) -> list[str]:
    """Turns T5X's `--gin.NAME=VALUE` flags into `--gin_binding NAME=VALUE`, which argparse can take."""
    out: list[str] = []
    for word in argv:
        if word.startswith("--gin."):
            out += ["--gin_binding", word.removeprefix("--gin.")]
        else:
            out.append(word)
    return out
