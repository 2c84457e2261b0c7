"""Text from outside has no power over the terminal, and stays readable."""

import io
import json

import pytest

from flanx.cli import eval as eval_command
from flanx.cli import infer_jobs
from flanx.cli.conversation import Conversation
from flanx.cli.main import main
from flanx.evaluation.progress import shown
from flanx.terminal import command, printable
from flanx.training.display import Display

RED = "\x1b[31m"
TITLE = "\x1b]0;owned\x07"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (RED + "x", "\\x1b[31mx"),
        ("a\rb\x08\x7f\x9b", "a\\rb\\x08\\x7f\\x9b"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("half \ud800", "half \\ud800"),
        ("two\nlines\tand\u2028more", "two\\nlines\\tand\\u2028more"),
        # Letters of every script, joiners, marks of direction and wide spaces are text.
        ("日本　語 नि‍ می‌خواهم 👩‍🚀 \u200f\xa0é", "日本　語 नि‍ می‌خواهم 👩‍🚀 \u200f\xa0é"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text, written):
    assert printable(text) == written


def test_line_breaks_and_tabs_of_a_text_may_stay():
    assert printable(f"a\n\tb{RED}\r", lines=True) == "a\n\tb\\x1b[31m\\r"


def test_commands_are_quoted():
    assert command("flanx", "infer", "a b;rm $x") == "flanx infer 'a b;rm $x'"


@pytest.mark.parametrize(
    "argv",
    [
        [RED],
        ["infer", f"no{RED}where", "--prompt=a"],
        ["eval", f"no{TITLE}where\nflanx: all is well"],
        ["cache", "--requests", f"{RED}.json"],
        ["train", f"--gin_file={RED}.gin"],
        ["convert", f"no{RED}where", "x", "--to=flanx"],
        ["tasks", "show", f"no{RED}task"],
    ],
)
def test_error_lines(argv, capfd):
    assert main(argv) == 2
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    assert "\\x1b" in err
    assert err.count("\n") == 1


def test_wrong_flags(capsys):
    with pytest.raises(SystemExit):
        main(["infer", "x", f"--{RED}"])
    assert "\x1b" not in capsys.readouterr().err


def test_answers_of_a_conversation():
    def answer(prompt, settings, turn, show):
        show(f"one{RED}")
        show(f"one{RED} two{TITLE}")
        return f"one{RED} two{TITLE}\nthree", ""

    out = io.StringIO()
    Conversation(answer, {}, source=io.StringIO("ask\n"), out=out).run()
    assert out.getvalue() == "one\\x1b[31m two\\x1b]0;owned\\x07\nthree\n"


def test_answers_to_a_tasks_examples(capsys):
    record = {"task": f"t{RED}", "index": 3, "input": f"ask{RED}\nmore", "references": [TITLE]}
    infer_jobs._print([{**record, "prediction": f"an[b]swer\x9b{RED}"}])
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\x9b" not in out
    assert "ask\\x1b[31m\nmore" in out
    assert "an[b]swer" in out


def test_a_table_of_scores_takes_names_as_they_are(capsys):
    eval_command._print({f"su[red]ite/ta{RED}sk/accuracy": 50.0, "su[red]ite/score": 50.0}, 1)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "su[red]ite" in out
    assert "ta\\x1b[31msk" in out


def test_progress(capsys, monkeypatch):
    monkeypatch.delenv("FLANX_PROGRESS", raising=False)
    with shown("examples") as show:
        show(2, 2, f"suite{RED}")
    display = Display(2, 0, enabled=True)
    display.say(f"from {RED}")
    captured = capsys.readouterr()
    assert "suite\\x1b[31m: 2 of 2" in captured.err
    assert "from \\x1b[31m" in captured.out
    assert "\x1b" not in captured.out + captured.err


def test_a_file_of_answers_is_exact(tmp_path):
    from flanx.evaluation.answer_file import write_line

    path = tmp_path / "answers.jsonl"
    with path.open("wb") as handle:
        write_line(handle, {"inputs": RED}, {"prediction": f"a{TITLE}"})
    assert json.loads(path.read_bytes()) == {"inputs": RED, "prediction": f"a{TITLE}"}
