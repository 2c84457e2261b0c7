"""A conversation without a model: lines, blocks, commands, history, interruptions."""

import io

import pytest

from flanx.cli.conversation import Conversation
from flanx.errors import UserError

SETTINGS = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 0, "stop": [], "beams": 1}
SETTINGS |= {"alpha": 0.6, "max_length": 9}


class Echo:
    """Answers its last line in capitals, in two pieces, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, prompt, settings, turn, show):
        self.asked.append((prompt, dict(settings), turn))
        text = prompt.rpartition("\n")[2].upper()
        show(text[:2])
        return text, ""


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _talk(text, **options):
    answer, out = Echo(), io.StringIO()
    Conversation(answer, SETTINGS, source=io.StringIO(text), out=out, **options).run()
    return answer.asked, out.getvalue()


def test_a_line_is_a_prompt_and_quotes_hold_several():
    asked, out = _talk('one\n\n"""\ntwo\n\n/three\n"""\nfour')
    assert [prompt for prompt, _, _ in asked] == ["one", "two\n\n/three", "four"]
    assert [turn for _, _, turn in asked] == [0, 1, 2]
    assert out == "ONE\n/THREE\nFOUR\n"


def test_a_block_may_end_with_the_input():
    asked, _ = _talk('"""\na\nb')
    assert asked[0][0] == "a\nb"


def test_settings():
    asked, out = _talk(
        "/set temperature 0.7\n/set stop END OF IT\na\n"
        '/set stop ["x", "y"]\nb\n/set\n/help\n/quit\nnever'
    )
    assert asked[0][1] == {**SETTINGS, "temperature": 0.7, "stop": ["END OF IT"]}
    assert asked[1][1]["stop"] == ["x", "y"]
    assert len(asked) == 2
    assert "temperature = 0.7\n" in out
    assert "history = 0\n" in out
    assert "Ctrl-C stops an answer" in out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/sett temperature 1", "line 2: no command '/sett'; did you mean '/set'?"),
        ("/set temprature 1", "line 2: no setting 'temprature'; did you mean 'temperature'?"),
        ("/set temperature warm", "line 2: temperature='warm': give a number from 0"),
        ("/set history -1", "line 2: history=-1: give a whole number from 0"),
    ],
)
def test_a_mistake_in_a_pipe_is_an_error_with_its_line(line, message):
    with pytest.raises(UserError) as caught:
        _talk(f"a\n{line}\nb")
    assert str(caught.value).startswith(message)


def test_history_stands_before_the_prompt_as_far_as_it_fits():
    asked, _ = _talk("a\nb\nc\n/forget\nd", history=1)
    assert [prompt for prompt, _, _ in asked] == ["a", "a\nA\n\nb", "b\nB\n\nc", "d"]
    asked, _ = _talk("aaa\nb\nc", history=2, fits=lambda text: len(text) < 8)
    assert asked[-1][0] == "b\nB\n\nc"
    asked, _ = _talk("a\nb")
    assert asked[-1][0] == "b"


def test_on_a_terminal_mistakes_and_interruptions_are_told(monkeypatch):
    lines = iter(["/nonsense", KeyboardInterrupt(), "stop me", "go on", EOFError()])

    def typed(sign):
        line = next(lines)
        if isinstance(line, BaseException):
            raise line
        return line

    def answer(prompt, settings, turn, show):
        show("so far")
        if prompt == "stop me":
            raise KeyboardInterrupt
        return "so far, so good", " [-1.0]"

    monkeypatch.setattr("builtins.input", typed)
    out = io.StringIO()
    Conversation(answer, SETTINGS, source=Terminal(), out=out).run()
    assert out.getvalue() == (
        "/help shows what can be said; Ctrl-D ends.\n"
        "no command '/nonsense' (/help shows them)\n"
        "\n(/quit or Ctrl-D ends)\n"
        "so far [stopped]\n"
        "so far, so good [-1.0]\n"
        "\n"
    )


def test_an_interruption_in_a_pipe_ends_it():
    def answer(*arguments):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Conversation(answer, SETTINGS, source=io.StringIO("a"), out=io.StringIO()).run()
